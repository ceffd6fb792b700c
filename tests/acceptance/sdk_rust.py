#!/usr/bin/env python3
"""Drives `oss-standin` with ali-oss-rs and with OpenDAL's OSS service. Needs Rust.

python3 sdk_rust.py [path of oss-standin]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from harness import TARGET, Suite, expect, expect_that
from judge import Habits, content_md5, etag_of
from receiver import FAILURES
from sdk_programs import (
    CLIENTS,
    LARGE,
    LISTED,
    TEXT,
    Report,
    Reports,
    Sdk,
    build,
    check_deleting,
    check_headers,
    check_presigned_get,
    check_range,
    check_sdk,
    content_of,
    expect_read_back,
)
from standin import Standin, standin

# Beside what the workspace itself builds, and kept with it.
BUILT = TARGET / "clients-rust"
MANIFEST = CLIENTS / "rust/Cargo.toml"
ALI_OSS_RS = Sdk(
    "ali-oss-rs",
    [f"{BUILT}/debug/ali-oss-rs-client"],
    "ApiError",
    Habits(raises_203=False, error_has_status=False),
    uploads=("put-bytes", "put-file", "put-token", "multipart", "presigned-v4", "presigned-token"),
    failing=(*(f"put {mode}" for mode in FAILURES), "multipart 500", "presigned-v4 500"),
    further_checks=("copying", "bucket info"),
)


def check_written(report: Report) -> None:
    """Read back as it was, and described as it is."""
    expect_read_back(report)
    expect("size and date", (report["size"], report["dated"]), (len(content_of(report["key"])), True))


def check_written_at_once(report: Report) -> None:
    check_written(report)
    data = content_of(report["key"])
    expect("MD5 and ETag", (report["md5"], report["etag"]), (content_md5(data), f'"{etag_of(data)}"'))


def check_written_in_parts(report: Report) -> None:
    check_written(report)
    parts = -(-len(LARGE) // (300 * 1024))
    expect_that(report["etag"].endswith(f'-{parts}"'), f"an ETag of {parts} parts", report["etag"])


def check_aborted(report: Report) -> None:
    expect("whether there is an object", report["left"], False)


def check_last_bytes(report: Report) -> None:
    expect("the last bytes", report["text"].encode(), TEXT[12:17])


def check_presigned_read(report: Report) -> None:
    check_presigned_get(report)
    expect("the disposition that was asked for", report["content_disposition"], 'inline; filename="ü.txt"')


def check_presigned_stat(report: Report) -> None:
    seen = report["status"], report["size"], report["answer"]
    expect("status, size, content", seen, (200, str(len(TEXT)), ""))


def listing_of(*entries: str) -> Callable[[Report], None]:
    """The check that these, and nothing else, are listed. OpenDAL puts the folders of a page first."""

    def check(report: Report) -> None:
        wanted = [[path, None if path.endswith("/") else len(path.encode())] for path in sorted(entries)]
        expect("paths and sizes", sorted(report["entries"], key=lambda entry: entry[0]), wanted)

    return check


def check_many(report: Report) -> None:
    expect("how many are listed, and left at the end", (report["listed"], report["left"]), (report["made"], 0))


def check_refused(report: Report, kind: str, said: str) -> None:
    """OpenDAL's kind of the error, and what OSS said, which is part of the message."""
    error = report.get("error") or {}
    expect(f"the kind of {error}", error.get("type"), kind)
    expect_that(bool(re.search(said, error["message"])), f"an error that says {said}", error["message"])


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
    "same version": expect_read_back,
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
OPENDAL_REFUSALS = {
    "missing object": ("NotFound", "NoSuchKey"),
    "missing object's head": ("NotFound", "404"),
    "missing bucket": ("NotFound", "NoSuchBucket"),
    "other secret": ("PermissionDenied", "SignatureDoesNotMatch"),
    "other key id": ("PermissionDenied", "InvalidAccessKeyId"),
    "unchanged": ("ConditionNotMatch", "304"),
    "other version": ("ConditionNotMatch", "PreconditionFailed"),
    "not to be overwritten": ("ConditionNotMatch", "FileAlreadyExists"),
}


def check_opendal(suite: Suite, running: Standin) -> None:
    reports = Reports(suite, running, "opendal", [f"{BUILT}/debug/opendal-client"])
    for step, check in OPENDAL_CHECKS.items():
        reports.succeeded(step, check)
    for step, (kind, said) in OPENDAL_REFUSALS.items():
        reports.run(step, check_refused, kind, said)
    reports.finish()


def main() -> int:
    suite = Suite("Rust clients")
    command = ["cargo", "build", "--manifest-path", str(MANIFEST), "--locked"]
    suite.run("the clients build", lambda: build(*command, CARGO_TARGET_DIR=str(BUILT)))
    with standin(suite) as running:
        check_sdk(suite, running, ALI_OSS_RS)
        check_opendal(suite, running)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
