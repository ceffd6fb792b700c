#!/usr/bin/env python3
"""Drives `oss-standin` with the official Java SDK. Needs Java 17 and Maven.

python3 sdk_java.py [path of oss-standin]
"""

from __future__ import annotations

import sys
from tempfile import TemporaryDirectory

from harness import Suite
from judge import Habits
from sdk_programs import CLIENTS, UPLOADS, Sdk, build, check_sdk
from standin import standin


def main() -> int:
    suite = Suite("Java SDK")
    with TemporaryDirectory() as folder:
        command = ["mvn", "--quiet", "--batch-mode", f"-Doutput={folder}", "compile", "dependency:copy-dependencies"]
        suite.run("the client builds", lambda: build(*command, folder=CLIENTS / "java"))
        sdk = Sdk(
            "java",
            # The SDK turns a callback into bytes as the platform does, before Java 18 not always in UTF-8.
            ["java", "-Dfile.encoding=UTF-8", "-cp", f"{folder}/classes:{folder}/dependencies/*", "AliyunSdkOss"],
            "com.aliyun.oss.OSSException",
            Habits(error_has_status=False),
            uploads=(*UPLOADS, "complete-all", "uploader-resumed"),
            further_checks=("image info",),
        )
        with standin(suite) as running:
            check_sdk(suite, running, sdk)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
