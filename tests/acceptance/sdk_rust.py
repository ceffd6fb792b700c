#!/usr/bin/env python3
"""Drives `oss-standin` with ali-oss-rs and with OpenDAL's OSS service. Needs Rust.

python3 sdk_rust.py [path of oss-standin]
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable

from harness import TARGET, Suite, expect, expect_that
from receiver import FAILURES
from sdk_programs import (
    CLIENTS,
    LARGE,
    LISTED,
    TEXT,
    Report,
    Sdk,
    check_deleting,
    check_headers,
    check_range,
    check_sdk,
    content_of,
    expect_no_error,
    expect_stored,
    reporting,
)
from standin import Standin, standin

# Beside what the workspace itself builds, and kept with it.
BUILT = TARGET / "clients-rust"
MANIFEST = CLIENTS / "rust/Cargo.toml"
ALI_OSS_RS = Sdk(
    "ali-oss-rs",
    [f"{BUILT}/debug/ali-oss-rs-client"],
    "ApiError",
    error_has_status=False,
    failed_callback_is_error=False,
    offered=("put-bytes", "put-file", "put-token", "multipart", "presigned-v4", "presigned-token"),
    failing=(*(f"put {mode}" for mode in FAILURES), "multipart 500", "presigned-v4 500"),
    further_checks=("copying", "bucket info"),
)


def build() -> None:
    built = subprocess.run(
        ["cargo", "build", "--manifest-path", MANIFEST, "--locked"],
        env={**os.environ, "CARGO_TARGET_DIR": str(BUILT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise AssertionError(f"cargo build ended with {built.returncode}: {built.stderr[-2000:]}")


def check_written(report: Report) -> None:
    """Read back as it was, and described as it is."""
    expect_no_error(report)
    expect_stored(report)
    _, data = content_of(report["key"])
    expect("size and date", (report["size"], report["dated"]), (len(data), True))


def check_written_at_once(report: Report) -> None:
    check_written(report)
    md5 = hashlib.md5(content_of(report["key"])[1], usedforsecurity=False)
    seen = report["md5"], report["etag"]
    expect("MD5 and ETag", seen, (base64.b64encode(md5.digest()).decode(), f'"{md5.hexdigest().upper()}"'))


def check_written_in_parts(report: Report) -> None:
    check_written(report)
    parts = -(-len(LARGE) // (300 * 1024))
    expect_that(report["etag"].endswith(f'-{parts}"'), f"an ETag of {parts} parts", report["etag"])


def check_aborted(report: Report) -> None:
    expect_no_error(report)
    expect("whether there is an object", report["left"], False)


def check_last_bytes(report: Report) -> None:
    expect_no_error(report)
    expect("the last bytes", report["text"].encode(), TEXT[12:17])


def check_same_version(report: Report) -> None:
    expect_no_error(report)
    expect_stored(report)


def check_presigned_read(report: Report) -> None:
    expect_no_error(report)
    expect("status and content", (report["status"], report["answer"].encode()), (200, TEXT))
    expect("the disposition that was asked for", report["content_disposition"], 'inline; filename="ü.txt"')


def check_presigned_stat(report: Report) -> None:
    expect_no_error(report)
    seen = report["status"], report["size"], report["answer"]
    expect("status, size, content", seen, (200, str(len(TEXT)), ""))


def listing_of(*entries: str) -> Callable[[Report], None]:
    """The check that these, and nothing else, are listed. OpenDAL puts the folders of a page first."""

    def check(report: Report) -> None:
        expect_no_error(report)
        wanted = [[path, None if path.endswith("/") else len(path.encode())] for path in sorted(entries)]
        expect("paths and sizes", sorted(report["entries"], key=lambda entry: entry[0]), wanted)

    return check


def check_many(report: Report) -> None:
    expect_no_error(report)
    expect("how many are listed, and left at the end", (report["listed"], report["left"]), (report["made"], 0))


def refused_as(kind: str, said: str) -> Callable[[Report], None]:
    """The check of OpenDAL's kind of the error, and of what OSS said, which is part of the message."""

    def check(report: Report) -> None:
        error = report.get("error") or {}
        expect(f"the kind of {error}", error.get("type"), kind)
        expect_that(bool(re.search(said, error["message"])), f"an error that says {said}", error["message"])

    return check


OPENDAL_CHECKS = {
    "write text": check_written_at_once,
    "write picture": check_written_at_once,
    "write with a token": check_written_at_once,
    "write in path style": check_written_at_once,
    "write in parts": check_written_in_parts,
    "write in parts at once": check_written_in_parts,
    "aborted writing": check_aborted,
    "copying": check_written,
    "headers": check_headers,
    "range": check_range,
    "range at the end": check_last_bytes,
    "read in chunks": check_written_at_once,
    "same version": check_same_version,
    "missing object": refused_as("NotFound", "NoSuchKey"),
    "missing object's head": refused_as("NotFound", "404"),
    "missing bucket": refused_as("NotFound", "NoSuchBucket"),
    "other secret": refused_as("PermissionDenied", "SignatureDoesNotMatch"),
    "other key id": refused_as("PermissionDenied", "InvalidAccessKeyId"),
    "unchanged": refused_as("ConditionNotMatch", "304"),
    "other version": refused_as("ConditionNotMatch", "PreconditionFailed"),
    "not to be overwritten": refused_as("ConditionNotMatch", "FileAlreadyExists"),
    "presigned read": check_presigned_read,
    "presigned stat": check_presigned_stat,
    "presigned write": check_written_at_once,
    "listing": listing_of("list/a/", "list/b/", *LISTED[3:]),
    "listing all": listing_of(*LISTED),
    "listing in path style": listing_of(*LISTED),
    "listing from a position": listing_of(*LISTED[3:]),
    "deleting": check_deleting,
    "batch deleting": listing_of(),
    "many": check_many,
}


def check_opendal(suite: Suite, running: Standin) -> None:
    run = reporting(suite, running, "opendal", [f"{BUILT}/debug/opendal-client"])
    for step, check in OPENDAL_CHECKS.items():
        run(step, check)


def main() -> int:
    suite = Suite("Rust clients")
    suite.run("the clients build", build)
    with standin(suite) as running:
        check_sdk(suite, running, ALI_OSS_RS)
        check_opendal(suite, running)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
