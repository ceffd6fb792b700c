#!/usr/bin/env python3
"""Drives `oss-standin` with both official Go SDKs. Needs Go.

python3 sdk_go.py [path of oss-standin]
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
        ["go", "build", "-o", f"{folder}/", "./sdkv1", "./sdkv2"],
        cwd=CLIENTS / "go",
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise AssertionError(f"go build ended with {built.returncode}: {built.stderr[-2000:]}")


def main() -> int:
    suite = Suite("Go SDKs")
    with TemporaryDirectory() as folder:
        suite.run("the clients build", build, Path(folder))
        with standin(suite) as running:
            # Neither uploader hands on what the callback answered.
            check_sdk(suite, running, Sdk("go-v1", [f"{folder}/sdkv1"], "oss.ServiceError", uploader_shows_answer=False))
            check_sdk(suite, running, Sdk("go-v2", [f"{folder}/sdkv2"], "*oss.ServiceError", uploader_shows_answer=False))
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
