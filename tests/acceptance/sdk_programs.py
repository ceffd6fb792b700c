"""What client programs in other languages report of their SDK, and what they must report.

A program is given the path of its settings, does all steps one after the other, and prints a line of JSON about each.
What must come of an upload is for judge.py to say.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import HERE, Suite, expect, expect_that
from judge import CUSTOM, Habits, Judge, Refused, Shown, Upload, expect_image_info
from pictures import all_pictures
from receiver import FAILURES, FORM, JSON, MODES
from standin import Standin, template

CLIENTS = HERE.parent / "clients"
TEXT = "A text, kürzer.\n".encode()
# More than two parts, the last one short, of the 300 KiB that the programs choose.
LARGE = bytes(range(256)) * 2800 + b"the end"
PICTURE = next(picture.data for picture in all_pictures() if picture.mime == "image/png")
# By file, and by the extension of the keys as which they are uploaded.
CONTENTS = {"text.txt": TEXT, "picture.png": PICTURE, "large.bin": LARGE}
SECONDS = 180
LISTED = ["list/a/1", "list/a/2", "list/b/1", "list/c", "list/d ü+&<.txt"]
UPLOADS = (
    *("put-bytes", "put-file", "put-stream", "put-v1", "put-token", "multipart", "multipart-v1", "uploader"),
    *("presigned-v4", "presigned-v1", "presigned-token", "form-post"),
)
FAILING = (*(f"put {mode}" for mode in FAILURES), "multipart 500", "uploader 500", "presigned-v4 500", "form-post 500")

Report = dict[str, Any]


@dataclass(frozen=True)
class Sdk:
    """One SDK's program, and where SDKs differ."""

    name: str
    command: list[str]
    # The type of the error by which it reports what OSS refused.
    error_type: str
    habits: Habits = Habits()
    uploads: tuple[str, ...] = UPLOADS
    failing: tuple[str, ...] = FAILING
    # What it does beyond the others, by the names in FURTHER_CHECKS.
    further_checks: tuple[str, ...] = ()

    def outcome(self, report: Report) -> Shown | Refused:
        """The report as the judge has what clients were told."""
        error = report.get("error")
        if error is None:
            return report
        expect(f"the type of the error {error}", error["type"], self.error_type)
        return Refused(error.get("status"), error.get("code"), error["message"])


def build(*command: str, folder: Path = CLIENTS, **environment: str) -> None:
    built = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    expect(f"the exit code of {command} ({built.stdout[-2000:]}{built.stderr[-2000:]})", built.returncode, 0)


def run_program(command: list[str], standin: Standin) -> dict[str, Report]:
    """What the program reported, by step."""
    with TemporaryDirectory() as folder:
        for name, data in CONTENTS.items():
            (Path(folder) / name).write_bytes(data)
        settings = {
            "endpoint": standin.endpoint,
            "region": standin.region,
            "bucket": standin.bucket,
            "access_key_id": standin.access_key_id,
            "access_key_secret": standin.access_key_secret,
            "callback_urls": {mode: standin.receiver.url_of(mode) for mode in MODES},
            "templates": {body_type: template(body_type, CUSTOM) for body_type in (FORM, JSON)},
            "variables": CUSTOM,
            "folder": folder,
        }
        path = Path(folder) / "settings.json"
        path.write_text(json.dumps(settings))
        ended = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=SECONDS, check=False)
    expect(f"the exit code of {command} ({ended.stderr[-2000:]})", ended.returncode, 0)
    return {report.pop("step"): report for report in map(json.loads, ended.stdout.splitlines())}


class Reports:
    """Of a program that has run, to be judged step by step."""

    def __init__(self, suite: Suite, standin: Standin, name: str, command: list[str]) -> None:
        self.suite, self.name = suite, name
        self.left: dict[str, Report] = {}
        suite.run(f"{name}: the program runs", lambda: self.left.update(run_program(command, standin)))

    def run(self, step: str, check: Callable[..., None], *arguments: Any) -> None:
        """Checks one step's report; further arguments come after it."""

        def checked() -> None:
            expect_that(step in self.left, f"a report of the step {step}", list(self.left))
            check(self.left.pop(step), *arguments)

        self.suite.run(f"{self.name}: {step}", checked)

    def succeeded(self, step: str, check: Callable[..., None], *arguments: Any) -> None:
        """The same for a step that must not end in an error."""

        def checked(report: Report) -> None:
            expect("the error", report.get("error"), None)
            check(report, *arguments)

        self.run(step, checked)

    def finish(self) -> None:
        self.suite.run(f"{self.name}: every step was judged", expect, "the steps left", list(self.left), [])


def check_sdk(suite: Suite, standin: Standin, sdk: Sdk) -> None:
    reports, judge = Reports(suite, standin, sdk.name, sdk.command), Judge(standin, sdk.habits)
    for kind, body_type in (("form", FORM), ("json", JSON)):
        for how in sdk.uploads:
            reports.succeeded(f"{how} {kind}", check_upload, judge, how, body_type)
    for name in sdk.failing:
        reports.run(f"failed {name}", check_failure, judge, sdk, *name.split())
    reports.run("failed put refused", check_bad_callback, judge, sdk)
    for step, check in OBJECT_CHECKS.items():
        reports.succeeded(step, check)
    for step in sdk.further_checks:
        reports.succeeded(step, FURTHER_CHECKS[step])
    for step, (status, code) in ERRORS.items():
        reports.run(step, check_refusal, judge, sdk, status, code)
    reports.run("unchanged", check_unchanged)
    reports.run("aborted upload", check_aborted, judge, sdk)
    reports.succeeded("buckets", check_buckets, standin)
    reports.finish()


def content_of(key: str) -> bytes:
    """What was uploaded as this key."""
    return next(data for name, data in CONTENTS.items() if key.endswith(Path(name).suffix))


def expect_read_back(report: Report) -> None:
    expect("why it cannot be read back", report.get("unreadable"), None)
    data, seen = content_of(report["key"]), report["stored"]
    digest = hashlib.sha256(data).hexdigest()
    expect("size and SHA-256 as the SDK reads it back", (seen["size"], seen["sha256"]), (len(data), digest))


def check_upload(report: Report, judge: Judge, how: str, body_type: str) -> None:
    expect_read_back(report)
    key = report["key"]
    judge.succeeded(Upload(how, key, content_of(key), report["stored"]["mime"], body_type), report)


def check_failure(report: Report, judge: Judge, sdk: Sdk, how: str, mode: str) -> None:
    expect_read_back(report)
    key = report["key"]
    judge.failed(Upload(how, key, content_of(key), body_type=JSON), mode, sdk.outcome(report))


def check_refusal(report: Report, judge: Judge, sdk: Sdk, status: int, code: str) -> None:
    judge.refused(sdk.outcome(report), status, code)


def check_bad_callback(report: Report, judge: Judge, sdk: Sdk) -> None:
    """Nothing is stored."""
    refusal = judge.refused(sdk.outcome(report), 400, "InvalidArgument")
    expect_that("base64" in refusal.message, "a word of Base64", refusal)
    expect_that("unreadable" in report, "no object", report)
    judge.absent(report["key"])


def check_unchanged(report: Report) -> None:
    """The answer has no document, so SDKs say it each in its own way, some in words alone."""
    error = report.get("error") or {}
    said = f"{error.get('status')} {error.get('code')} {error.get('message')}"
    expect_that(bool(re.search("304|NotModified", said)), "an error that says 304", report)


def check_headers(report: Report) -> None:
    wanted = {
        "mime": "text/markdown",
        "cache_control": "no-cache",
        "content_disposition": "attachment",
        "author": "a writer",
        "size": str(len(TEXT)),
    }
    expect("the headers", {name: str(report.get(name)) for name in wanted}, wanted)


def check_range(report: Report) -> None:
    expect("bytes 2 to 5", report["text"].encode(), TEXT[2:6])


def check_presigned_get(report: Report) -> None:
    expect("status and content", (report["status"], report["answer"].encode()), (200, TEXT))


def check_listing(report: Report) -> None:
    seen = report["keys"], report["prefixes"], report["pages"]
    expect("keys, folders, pages", seen, ([LISTED[3], LISTED[4]], ["list/a/", "list/b/"], 2))


def check_listing_v2(report: Report) -> None:
    keys = LISTED[1:]
    seen = report["keys"], report["sizes"], report["pages"]
    expect("keys, sizes, pages", seen, (keys, [len(key.encode()) for key in keys], 2))


def check_deleting(report: Report) -> None:
    expect("whether it exists before and after", (report["before"], report["after"]), (True, False))


def check_batch_deleting(report: Report) -> None:
    expect("the keys that are said to be gone", sorted(report["deleted"]), LISTED[1:])
    expect("whether one is left", report["left"], False)


def check_image_info(report: Report) -> None:
    expect_image_info(report["answer"], PICTURE)


def check_bucket_info(report: Report) -> None:
    expect("name and place", (report["name"], report["location"]), ("examplebucket", "oss-cn-hangzhou"))


OBJECT_CHECKS = {
    "headers": check_headers,
    "range": check_range,
    "presigned get": check_presigned_get,
    "listing": check_listing,
    "listing v2": check_listing_v2,
    "deleting": check_deleting,
    "batch deleting": check_batch_deleting,
}
FURTHER_CHECKS = {"image info": check_image_info, "copying": expect_read_back, "bucket info": check_bucket_info}
ERRORS = {
    "other version": (412, "PreconditionFailed"),
    "missing object": (404, "NoSuchKey"),
    "missing bucket": (404, "NoSuchBucket"),
}


def check_aborted(report: Report, judge: Judge, sdk: Sdk) -> None:
    expect("the parts before", report.get("parts"), 1)
    judge.refused(sdk.outcome(report), 404, "NoSuchUpload")


def check_buckets(report: Report, standin: Standin) -> None:
    expect("all buckets", sorted(report["names"]), sorted([report["made"], standin.bucket]))
    expect("name and place", (report["info"], report["location"]), (report["made"], f"oss-{standin.region}"))
    expect("whether it exists after its deletion", report["left"], False)
