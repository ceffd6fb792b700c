#!/usr/bin/env python3
"""Drives `oss-standin` with the official Java SDK. Needs Java 17 and Maven.

python3 sdk_java.py [path of oss-standin]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import Suite
from sdk_programs import CLIENTS, Sdk, check_sdk
from standin import standin


def build(folder: Path) -> None:
    built = subprocess.run(
        ["mvn", "--quiet", "--batch-mode", f"-Doutput={folder}", "compile", "dependency:copy-dependencies"],
        cwd=CLIENTS / "java",
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise AssertionError(f"mvn ended with {built.returncode}: {built.stdout[-2000:]}{built.stderr[-2000:]}")


def main() -> int:
    suite = Suite("Java SDK")
    with TemporaryDirectory() as folder:
        suite.run("the client builds", build, Path(folder))
        # The SDK turns a callback into bytes as the platform does, before Java 18 not always in UTF-8.
        program = ["java", "-Dfile.encoding=UTF-8", "-cp", f"{folder}/classes:{folder}/dependencies/*", "AliyunSdkOss"]
        sdk = Sdk(
            "java",
            program,
            "com.aliyun.oss.OSSException",
            error_has_status=False,
            further_uploads=("complete-all", "uploader-resumed"),
            further_checks=("image info",),
        )
        with standin(suite) as running:
            check_sdk(suite, running, sdk)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
