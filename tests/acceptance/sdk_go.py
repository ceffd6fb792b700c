#!/usr/bin/env python3
"""Drives `oss-standin` with both official Go SDKs. Needs Go.

python3 sdk_go.py [path of oss-standin]
"""

from __future__ import annotations

import sys
from tempfile import TemporaryDirectory

from harness import Suite
from judge import Habits
from sdk_programs import CLIENTS, Sdk, build, check_sdk
from standin import standin


def main() -> int:
    suite = Suite("Go SDKs")
    with TemporaryDirectory() as folder:
        command = ["go", "build", "-o", f"{folder}/", "./sdkv1", "./sdkv2"]
        suite.run("the clients build", lambda: build(*command, folder=CLIENTS / "go"))
        # Neither uploader hands on what the callback answered.
        v1, v2 = Habits(hides_answer=("uploader",)), Habits(hides_answer=("uploader",), number=float)
        with standin(suite) as running:
            check_sdk(suite, running, Sdk("go-v1", [f"{folder}/sdkv1"], "oss.ServiceError", v1))
            check_sdk(suite, running, Sdk("go-v2", [f"{folder}/sdkv2"], "*oss.ServiceError", v2))
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
