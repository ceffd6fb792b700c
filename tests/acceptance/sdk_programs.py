"""What client programs in other languages report of their SDK, and what they must report.

A program is given the path of its settings, does all steps one after the other, and prints a line of JSON about each.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import HERE, Suite, expect, expect_that
from pictures import all_pictures
from receiver import FAILURES, FORM, JSON, MODES
from standin import Standin, differences, template

CLIENTS = HERE.parent / "clients"
CUSTOM = {"x:uid": "user 7/ü", "x:from": "a=b&c%d"}
TEXT = "A text, kürzer.\n".encode()
# More than two parts, the last one short, of the 300 KiB that the programs choose.
LARGE = bytes(range(256)) * 2800 + b"the end"
PICTURE = next(picture for picture in all_pictures() if picture.mime == "image/png")
CONTENTS = {"text.txt": TEXT, "picture.png": PICTURE.data, "large.bin": LARGE}
SECONDS = 180
LISTED = ["list/a/1", "list/a/2", "list/b/1", "list/c", "list/d ü+&<.txt"]

Report = dict[str, Any]


@dataclass(frozen=True)
class Upload:
    """What an upload of that name is. The extension of its key tells the content."""

    operation: str = "PutObject"
    shows_answer: bool = True


UPLOADS = {
    "put-bytes": Upload(),
    "put-file": Upload(),
    "put-stream": Upload(),
    "put-v1": Upload(),
    "put-token": Upload(),
    "multipart": Upload("CompleteMultipartUpload"),
    "multipart-v1": Upload("CompleteMultipartUpload"),
    "uploader": Upload("CompleteMultipartUpload"),
    "presigned-v4": Upload(),
    "presigned-v1": Upload(),
    "presigned-token": Upload(),
    "form-post": Upload("PostObject"),
}
FURTHER_UPLOADS = {
    "complete-all": Upload("CompleteMultipartUpload"),
    "uploader-resumed": Upload("CompleteMultipartUpload"),
}
FAILING = [*(f"put {mode}" for mode in FAILURES), "multipart 500", "uploader 500", "presigned-v4 500", "form-post 500"]


@dataclass(frozen=True)
class Sdk:
    """One SDK's program, and where SDKs differ."""

    name: str
    command: list[str]
    # The type of the error by which it reports a refusal and a failed callback, and what it knows of it.
    error_type: str
    error_has_status: bool = True
    # Whether the caller of its own uploader is given the callback's answer.
    uploader_shows_answer: bool = True
    # Whether it tells a failed callback from a successful one, or shows OSS's document as if it were the answer.
    failed_callback_is_error: bool = True
    # What of UPLOADS and FAILING it offers.
    offered: Sequence[str] = tuple(UPLOADS)
    failing: Sequence[str] = tuple(FAILING)
    # What it does beyond the others, by the names in FURTHER_UPLOADS and FURTHER_CHECKS.
    further_uploads: tuple[str, ...] = ()
    further_checks: tuple[str, ...] = ()

    @property
    def uploads(self) -> list[str]:
        return [*self.offered, *self.further_uploads]

    def upload(self, name: str) -> Upload:
        operation = (UPLOADS | FURTHER_UPLOADS)[name].operation
        return Upload(operation, shows_answer=name != "uploader" or self.uploader_shows_answer)


def crc64(data: bytes) -> int:
    """CRC-64/XZ, as in x-oss-hash-crc64ecma."""
    register = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        register = CRC_TABLE[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFFFFFFFFFF


def crc_of_byte(register: int) -> int:
    for _ in range(8):
        register = (register >> 1) ^ (0xC96C5795D7870F42 if register & 1 else 0)
    return register


CRC_TABLE = [crc_of_byte(byte) for byte in range(256)]
CRCS = {name: crc64(data) for name, data in CONTENTS.items()}


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


def reporting(suite: Suite, standin: Standin, name: str, command: list[str]) -> Callable[..., None]:
    """Runs the program of that name; what is returned runs a check of one step's report, further arguments after it."""
    reports: dict[str, Report] = {}
    suite.run(f"{name}: the program runs", lambda: reports.update(run_program(command, standin)))

    def run(step: str, check: Callable[..., None], *arguments: Any) -> None:
        def checked() -> None:
            expect_that(step in reports, f"a report of the step {step}", list(reports))
            check(reports[step], *arguments)

        suite.run(f"{name}: {step}", checked)

    return run


def check_sdk(suite: Suite, standin: Standin, sdk: Sdk) -> None:
    run = reporting(suite, standin, sdk.name, sdk.command)
    for kind, body_type in (("form", FORM), ("json", JSON)):
        for name in sdk.uploads:
            run(f"{name} {kind}", check_upload, standin, body_type, sdk.upload(name))
    for name in sdk.failing:
        run(f"failed {name}", check_failure, standin, sdk, name)
    run("failed put refused", check_refusal, sdk)
    for step, check in OBJECT_CHECKS.items():
        run(step, check)
    for step in sdk.further_checks:
        run(step, FURTHER_CHECKS[step])
    for step, (status, code) in ERRORS.items():
        run(step, expect_error, sdk, status, code)
    run("aborted upload", check_aborted, sdk)
    run("buckets", check_buckets, standin)


def content_of(key: str) -> tuple[str, bytes]:
    """The file that was uploaded as this key."""
    return next((name, data) for name, data in CONTENTS.items() if name.endswith(key[key.rindex(".") :]))


def expect_no_error(report: Report) -> None:
    expect("the error", report.get("error"), None)


def expect_stored(report: Report) -> None:
    name, data = content_of(report["key"])
    expect("why it cannot be read back", report.get("unreadable"), None)
    seen = report["stored"]
    expect(f"{name} as read back", (seen["size"], seen["sha256"]), (len(data), hashlib.sha256(data).hexdigest()))


def check_upload(report: Report, standin: Standin, body_type: str, upload: Upload) -> None:
    """The callback said all that is known of the upload, and the SDK was given its answer."""
    expect_no_error(report)
    expect(f"the status that was shown with {report.get('answer')!r}", report.get("status", 200), 200)
    received = standin.receiver.take_of(report["key"])
    name, data = content_of(report["key"])
    wanted = {
        "bucket": standin.bucket,
        "object": report["key"],
        "size": len(data),
        "mimeType": report["stored"]["mime"],
        "imageInfo.height": "",
        "imageInfo.width": "",
        "imageInfo.format": "",
        "crc64": CRCS[name],
        "clientIp": "127.0.0.1",
        "operation": upload.operation,
        **{variable.removeprefix("x:"): value for variable, value in CUSTOM.items()},
    }
    if name == "picture.png":
        width, height = picture_size()
        wanted |= {"imageInfo.height": height, "imageInfo.width": width, "imageInfo.format": "png"}
    md5 = hashlib.md5(data, usedforsecurity=False)
    if upload.operation == "PutObject":
        wanted |= {"etag": md5.hexdigest().upper(), "contentMd5": base64.b64encode(md5.digest()).decode()}
    if report.get("etag"):
        wanted["etag"] = report["etag"].strip('"')
    expect("the media type of the callback", received.headers["content-type"], body_type)
    expect("what the callback said, and should have said", differences(received, wanted, body_type), {})
    if report.get("crc64"):
        expect("the CRC-64 that was shown", int(report["crc64"]), CRCS[name])
    if upload.shows_answer:
        # The Go SDK reads numbers into doubles, and cannot give out a CRC-64 as it came.
        shown = json.loads(report["answer"], parse_int=float)["variables"]
        wanted = json.loads(json.dumps(received.variables), parse_int=float)
        expect("the answer that was shown", shown, wanted)
    expect_stored(report)


def picture_size() -> tuple[int, int]:
    """Width and height, as a PNG's first chunk tells them."""
    return int.from_bytes(PICTURE.data[16:20]), int.from_bytes(PICTURE.data[20:24])


def check_failure(report: Report, standin: Standin, sdk: Sdk, name: str) -> None:
    """The client hears of it as its SDK has it, and the object stays."""
    mode = name.rpartition(" ")[2]
    if name.startswith(("presigned", "form-post")) or not sdk.failed_callback_is_error:
        expect_no_error(report)
        message = report["answer"]
        expect(f"the status, if it is shown, with {message!r}", report.get("status", 203), 203)
        expect_that("<Code>CallbackFailed</Code>" in message, "CallbackFailed in XML", message)
    else:
        expect_error(report, sdk, 203, "CallbackFailed")
        message = report["error"]["message"]
    expect_that(bool(re.search(FAILURES[mode], message)), f"a message like {FAILURES[mode]!r}", message)
    standin.receiver.take_of(report["key"])
    expect_stored(report)


def expect_error(report: Report, sdk: Sdk, status: int, code: str) -> None:
    error = report.get("error") or {}
    expect(f"type and code of the error {error}", (error.get("type"), error.get("code")), (sdk.error_type, code))
    if sdk.error_has_status:
        expect(f"the status of the error {error}", error.get("status"), status)


def check_unchanged(report: Report) -> None:
    """The answer has no document, so SDKs say it each in its own way, some in words alone."""
    error = report.get("error") or {}
    said = f"{error.get('status')} {error.get('code')} {error.get('message')}"
    expect_that(bool(re.search("304|NotModified", said)), "an error that says 304", report)


def check_refusal(report: Report, sdk: Sdk) -> None:
    """Nothing is stored."""
    expect_error(report, sdk, 400, "InvalidArgument")
    expect_that("base64" in report["error"]["message"], "a word of Base64", report["error"]["message"])
    expect_that("unreadable" in report, "no object", report)


def check_headers(report: Report) -> None:
    expect_no_error(report)
    wanted = {
        "mime": "text/markdown",
        "cache_control": "no-cache",
        "content_disposition": "attachment",
        "author": "a writer",
        "size": str(len(TEXT)),
    }
    expect("the headers", {name: str(report.get(name)) for name in wanted}, wanted)


def check_range(report: Report) -> None:
    expect_no_error(report)
    expect("bytes 2 to 5", report["text"].encode(), TEXT[2:6])


def check_presigned_get(report: Report) -> None:
    expect_no_error(report)
    expect("status and content", (report["status"], report["answer"].encode()), (200, TEXT))


def check_listing(report: Report) -> None:
    expect_no_error(report)
    seen = report["keys"], report["prefixes"], report["pages"]
    expect("keys, folders, pages", seen, ([LISTED[3], LISTED[4]], ["list/a/", "list/b/"], 2))


def check_listing_v2(report: Report) -> None:
    expect_no_error(report)
    keys = LISTED[1:]
    seen = report["keys"], report["sizes"], report["pages"]
    expect("keys, sizes, pages", seen, (keys, [len(key.encode()) for key in keys], 2))


def check_deleting(report: Report) -> None:
    expect_no_error(report)
    expect("whether it exists before and after", (report["before"], report["after"]), (True, False))


def check_batch_deleting(report: Report) -> None:
    expect_no_error(report)
    expect("the keys that are said to be gone", sorted(report["deleted"]), LISTED[1:])
    expect("whether one is left", report["left"], False)


def check_image_info(report: Report) -> None:
    expect_no_error(report)
    info = json.loads(report["answer"])
    seen = tuple(info[name]["value"] for name in ("ImageWidth", "ImageHeight", "Format", "FileSize"))
    wanted = (*map(str, picture_size()), "png", str(len(PICTURE.data)))
    expect("width, height, format, size", seen, wanted)


def check_bucket_info(report: Report) -> None:
    expect_no_error(report)
    expect("name and place", (report["name"], report["location"]), ("examplebucket", "oss-cn-hangzhou"))


OBJECT_CHECKS = {
    "headers": check_headers,
    "range": check_range,
    "unchanged": check_unchanged,
    "presigned get": check_presigned_get,
    "listing": check_listing,
    "listing v2": check_listing_v2,
    "deleting": check_deleting,
    "batch deleting": check_batch_deleting,
}
FURTHER_CHECKS = {"image info": check_image_info, "copying": expect_stored, "bucket info": check_bucket_info}
ERRORS = {
    "other version": (412, "PreconditionFailed"),
    "missing object": (404, "NoSuchKey"),
    "missing bucket": (404, "NoSuchBucket"),
}


def check_aborted(report: Report, sdk: Sdk) -> None:
    expect("the parts before", report.get("parts"), 1)
    expect_error(report, sdk, 404, "NoSuchUpload")


def check_buckets(report: Report, standin: Standin) -> None:
    expect_no_error(report)
    expect("all buckets", sorted(report["names"]), sorted([report["made"], standin.bucket]))
    expect("name and place", (report["info"], report["location"]), (report["made"], f"oss-{standin.region}"))
    expect("whether it exists after its deletion", report["left"], False)
