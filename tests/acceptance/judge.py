"""What every client must be told of an upload with a callback, and what the callback must have said.

How it learns of an upload is not its business: standin_checks.py asks clients for one after the other, and
sdk_programs.py reads what programs report of theirs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import crcmod
from PIL import Image, UnidentifiedImageError

from harness import expect, expect_that
from receiver import FAILURES, FORM
from standin import Standin, callback_to, differences

CUSTOM = {"x:uid": "user 7/ü&=+%", "x:from": '"quoted"\\'}
crc64 = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, rev=True, xorOut=0xFFFFFFFFFFFFFFFF)

# What a client shows of an answer, each where it shows it at all: `status`, `etag`, `request_id`, `crc64`, and the body
# as `answer`.
Shown = dict[str, Any]


class Refused(Exception):
    """How a client tells its caller that a request failed."""

    def __init__(self, status: int | None, code: str | None, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


def attempt(do: Callable[..., Shown], *arguments: Any, **named: Any) -> Shown | Refused:
    """For requests that may be refused, or must be."""
    try:
        return do(*arguments, **named)
    except Refused as refusal:
        return refusal


@dataclass(frozen=True)
class Habits:
    """Where SDKs differ in what they hand on."""

    # Whether a failed callback is an error, or passes for a success that has OSS's document as its answer.
    raises_203: bool = True
    error_has_status: bool = True
    # The ways of uploading whose caller is not given the callback's answer.
    hides_answer: tuple[str, ...] = ()
    # How it reads whole numbers in the answer: one that has doubles only loses the last digits of a CRC-64.
    number: Callable[[str], int | float] = int


@dataclass(frozen=True)
class Upload:
    """What was sent, and how: clients name their ways of uploading after what they use for it."""

    how: str
    key: str
    data: bytes
    mime: str = "text/plain"
    body_type: str = FORM

    @property
    def operation(self) -> str:
        """As OSS calls it."""
        if self.how.startswith(("form", "post")):
            return "PostObject"
        in_parts = self.how.startswith(("multipart", "upload", "complete"))
        return "CompleteMultipartUpload" if in_parts else "PutObject"

    @property
    def by_sdk(self) -> bool:
        """Or by a plain HTTP client, which was handed a URL or a form."""
        return not self.how.startswith(("presign", "form", "post"))


def etag_of(data: bytes) -> str:
    """Of an object that was put."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest().upper()


def content_md5(data: bytes) -> str:
    return base64.b64encode(bytes.fromhex(etag_of(data))).decode()


def image_info(data: bytes) -> dict[str, Any]:
    """Height, width and format as stored, for turning a picture is left to who shows it; empty if it is none."""
    try:
        with Image.open(BytesIO(data), formats=["JPEG", "PNG"]) as image:
            kind = {"JPEG": "jpg", "PNG": "png"}[image.format or ""]
            return {"height": image.height, "width": image.width, "format": kind}
    except UnidentifiedImageError:
        return dict.fromkeys(("height", "width", "format"), "")


def expect_image_info(answer: str | bytes, data: bytes) -> None:
    """The answer to the process image/info."""
    described = json.loads(answer)
    info = {f"Image{name.title()}": str(value) for name, value in image_info(data).items()}
    wanted = {"FileSize": str(len(data)), "Format": info.pop("ImageFormat"), **info}
    expect("the description", {name: described.get(name, {}).get("value") for name in wanted}, wanted)


class Judge:
    """Of the clients of one SDK on one stand-in."""

    def __init__(self, standin: Standin, habits: Habits) -> None:
        self.standin, self.habits = standin, habits

    def callback(self, body_type: str, mode: str = "ok") -> dict[str, str]:
        """The callback that uploads are to be made with, to the server that answers in that mode."""
        return callback_to(self.standin.receiver.url_of(mode), body_type, CUSTOM)

    def stored(self, key: str) -> bytes:
        return self.standin.signed("GET", key)[2]

    def head(self, key: str) -> dict[str, str]:
        status, headers, _ = self.standin.signed("HEAD", key)
        expect(f"the status of HEAD {key}", status, 200)
        return headers

    def absent(self, key: str) -> None:
        expect(f"the status of HEAD {key}", self.standin.signed("HEAD", key)[0], 404)

    def succeeded(self, upload: Upload, shown: Shown) -> None:
        """The callback said all that is known of the upload, and the client was given its answer."""
        expect(f"the status that was shown with {shown.get('answer')!r}", shown.get("status", 200), 200)
        received = self.standin.receiver.take_of(upload.key)
        expect("the media type of the callback", received.headers["content-type"], upload.body_type)
        etag = self.head(upload.key)["etag"]
        wanted = {
            "bucket": self.standin.bucket,
            "object": upload.key,
            "etag": etag.strip('"'),
            "size": len(upload.data),
            "mimeType": upload.mime,
            **{f"imageInfo.{name}": value for name, value in image_info(upload.data).items()},
            "crc64": crc64(upload.data),
            "contentMd5": "" if upload.operation == "CompleteMultipartUpload" else content_md5(upload.data),
            "vpcId": "",
            "clientIp": "127.0.0.1",
            "operation": upload.operation,
            **{name.removeprefix("x:"): value for name, value in CUSTOM.items()},
        }
        if upload.operation == "PutObject":
            wanted["etag"] = etag_of(upload.data)
        if shown.get("request_id"):
            wanted["reqId"] = shown["request_id"]
        expect("what the callback said, and should have said", differences(received, wanted, upload.body_type), {})
        if shown.get("etag"):
            expect("the ETag that was shown", shown["etag"].strip('"'), etag.strip('"'))
        if shown.get("crc64"):
            expect("the CRC-64 that was shown", int(shown["crc64"]), crc64(upload.data))
        if upload.how not in self.habits.hides_answer:
            answer = json.loads(shown["answer"], parse_int=self.habits.number)
            variables = json.loads(json.dumps(received.variables), parse_int=self.habits.number)
            expect("the callback's answer as it was shown", answer["variables"], variables)
        expect("the content as stored", self.stored(upload.key), upload.data)

    def failed(self, upload: Upload, mode: str, outcome: Shown | Refused) -> None:
        """The client hears in its SDK's way of a callback that was answered in that mode, and the object stays."""
        message = None
        if upload.by_sdk and self.habits.raises_203:
            message = self.refused(outcome, 203, "CallbackFailed").message
        else:
            if isinstance(outcome, Refused):
                raise AssertionError(f"expected what passes for a success, saw {outcome!r}")
            expect(f"the status that was shown with {outcome}", outcome.get("status", 203), 203)
            if upload.how not in self.habits.hides_answer:
                message = outcome["answer"]
                expect_that("<Code>CallbackFailed</Code>" in message, "CallbackFailed in XML", message)
        if message is not None:
            expect_that(bool(re.search(FAILURES[mode], message)), f"a message like {FAILURES[mode]!r}", message)
        self.standin.receiver.take_of(upload.key)
        expect("the content, kept all the same", self.stored(upload.key), upload.data)

    def refused(self, outcome: Shown | Refused, status: int, code: str) -> Refused:
        if not isinstance(outcome, Refused):
            raise AssertionError(f"expected a refusal by {code}, saw {outcome}")
        wanted = status if self.habits.error_has_status else None, code
        expect(f"status and code of the refusal {outcome}", (outcome.status, outcome.code), wanted)
        return outcome
