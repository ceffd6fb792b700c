"""What every client must be able to do with the stand-in, whatever its language.

A client is anything with the attributes and the method of `Client`, so that all that is expected stands here once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import crcmod

from harness import Suite, expect, expect_that
from pictures import all_pictures
from receiver import FAILURES, FORM, JSON
from standin import Standin, differences, send, template

CUSTOM = {"x:uid": "user 7/ü&=+%", "x:from": '"quoted"\\'}
KEYS = ("plain.txt", "a folder/two  spaces.txt", "ümlaut/深圳.txt", "plus+and%25percent%.txt", "a&b=c?d#e;f~g'h(i)*!.txt")
PART = 100 * 1024  # the least that OSS takes for a part that is not the last
crc64 = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, rev=True, xorOut=0xFFFFFFFFFFFFFFFF)


class Refused(Exception):
    """How a client tells its caller that a request failed."""

    def __init__(self, status: int | None, code: str | None, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


class Client(Protocol):
    """One SDK in one configuration. Failures are raised as `Refused`; what it cannot do is not in `does`.

    An upload returns what the SDK shows of the answer: `status`, `etag`, `request_id` and the callback's answer as `text`,
    each where it shows it at all.
    """

    name: str
    does: frozenset[str]
    # Whether a failed callback is reported as an error, as this SDK does, or passes for a success.
    raises_203: bool

    def do(self, operation: str, **arguments: Any) -> dict[str, Any]: ...


def base64_json(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


class Checks:
    """The checks of one client on one stand-in. Keys begin with the client's name, so clients do not meet."""

    def __init__(self, suite: Suite, standin: Standin, client: Client, files: Path) -> None:
        self.suite, self.standin, self.client, self.files = suite, standin, client, files
        self.receiver = standin.receiver

    def run(self, needs: str, name: str, check: Callable[..., Any], *arguments: Any) -> None:
        """Runs it if the client does what it needs."""
        if set(needs.split()) <= self.client.does:
            self.suite.run(f"{self.client.name}: {name}", check, *arguments)

    def key(self, name: str) -> str:
        return f"{self.client.name.replace(' ', '-')}/{name}"

    def callback(self, body_type: str, mode: str = "ok") -> dict[str, str]:
        return {
            "callbackUrl": self.receiver.url_of(mode),
            "callbackBody": template(body_type, CUSTOM),
            "callbackBodyType": body_type,
        }

    def all(self) -> None:
        self.uploads()
        self.failures()
        self.presigned()
        self.forms()
        self.reading()
        self.listing()
        self.deleting()
        self.buckets()

    # -- uploads and their callbacks

    def uploads(self) -> None:
        for body_type in (FORM, JSON):
            for how in ("put", "put_stream", "put_file", "multipart", "upload_file"):
                label = f"{how} with a callback as {body_type}"
                self.run(f"{how} callback", label, self.check_upload, how, body_type)
        for key in KEYS:
            self.run("put callback", f"put of the key {key}", self.check_upload, "put", JSON, key)
            self.run("multipart callback", f"multipart of the key {key}", self.check_upload, "multipart", FORM, key)
        for name in ("empty", "picture"):
            self.run("put callback", f"put of {name} content", self.check_upload, "put", JSON, f"{name}.bin", name)
        self.run("put_stream callback", "put_stream of no content", self.check_upload, "put_stream", FORM, "no", "empty")
        for how in ("put", "put_stream", "put_file", "multipart", "upload_file", "upload_file_plain"):
            self.run(f"{how} get", f"{how} without a callback", self.check_plain_upload, how)
        self.run("put callback", "a callback that answers an array", self.check_array)

    def content(self, how: str, name: str) -> bytes:
        if name == "empty":
            return b""
        if name == "picture":
            return self.picture.data
        # Several parts, and a last one that is short, where the way of uploading has parts.
        return bytes(range(256)) * (1200 if how in ("multipart", "upload_file", "upload_file_plain") else 4) + b"the end"

    @property
    def picture(self) -> Any:
        return next(picture for picture in all_pictures() if picture.key.endswith("upright.jpg"))

    def upload(self, how: str, key: str, data: bytes, mime: str, **more: Any) -> dict[str, Any]:
        if how == "multipart":
            parts = [data[start : start + PART] for start in range(0, len(data), PART)]
            return self.client.do("multipart", key=key, parts=parts, mime=mime, **more)
        if how in ("put_file", "upload_file", "upload_file_plain"):
            path = self.files / "content.bin"
            path.write_bytes(data)
            size = {} if how == "put_file" else {"part_size": PART}
            return self.client.do(how, key=key, path=path, mime=mime, **size, **more)
        return self.client.do(how, key=key, data=data, mime=mime, **more)

    def check_upload(self, how: str, body_type: str, name: str | None = None, content: str = "text") -> None:
        key, mime = self.key(name or f"{how}.txt"), "text/x-one; charset=utf-8"
        data = self.content(how, content)
        shown = self.upload(how, key, data, mime, callback=self.callback(body_type), custom=CUSTOM)
        operation = "CompleteMultipartUpload" if how in ("multipart", "upload_file", "upload_file_plain") else "PutObject"
        self.expect_callback(key, data, mime, operation, body_type, shown)
        expect("the content as stored", self.stored(key), data)

    def expect_callback(
        self, key: str, data: bytes, mime: str, operation: str, body_type: str, shown: dict[str, Any]
    ) -> None:
        """That the callback said all that is known of the upload, and that the client was given its answer."""
        received = self.receiver.take_of(key)
        expect("the media type of the callback", received.headers["content-type"], body_type)
        described = self.describe(key)
        wanted = {
            "bucket": self.standin.bucket,
            "object": key,
            "etag": described["etag"],
            "size": len(data),
            "mimeType": mime,
            "imageInfo.height": "",
            "imageInfo.width": "",
            "imageInfo.format": "",
            "crc64": crc64(data),
            "contentMd5": "",
            "vpcId": "",
            "clientIp": "127.0.0.1",
            "operation": operation,
            **{name.removeprefix("x:"): value for name, value in CUSTOM.items()},
        }
        if data == self.picture.data:
            # As stored: turning it is left to who shows it.
            wanted |= {"imageInfo.height": 3000, "imageInfo.width": 4000, "imageInfo.format": "jpg"}
        md5 = hashlib.md5(data, usedforsecurity=False)
        if operation != "CompleteMultipartUpload":
            wanted["contentMd5"] = base64.b64encode(md5.digest()).decode()
        if operation == "PutObject":
            wanted["etag"] = md5.hexdigest().upper()
        if shown.get("request_id"):
            wanted["reqId"] = shown["request_id"]
        expect("what the callback said, and should have said", differences(received, wanted, body_type), {})
        if shown.get("etag"):
            expect("the ETag that the client was given", shown["etag"].strip('"'), described["etag"])
        if shown.get("status"):
            expect("the status that the client was given", shown["status"], 200)
        if shown.get("text"):
            answer = json.loads(shown["text"])
            expect("the callback's answer as given to the client", answer["variables"], received.variables)
        else:
            expect_that("hides_answer" in self.client.does, "the callback's answer given to the client", shown)

    def stored(self, key: str) -> bytes:
        return self.standin.signed("GET", key)[2]

    def describe(self, key: str) -> dict[str, Any]:
        status, headers, _ = self.standin.signed("HEAD", key)
        expect(f"the status of HEAD {key}", status, 200)
        return {"etag": headers["etag"].strip('"'), "headers": headers}

    def check_plain_upload(self, how: str) -> None:
        key, data = self.key(f"plain-{how}.bin"), self.content(how, "text")
        self.upload(how, key, data, "application/x-two")
        expect("the content by the client", self.client.do("get", key=key)["data"], data)
        headers = self.describe(key)["headers"]
        expect("the type as stored", headers["content-type"], "application/x-two")
        expect("the CRC-64", int(headers["x-oss-hash-crc64ecma"]), crc64(data))

    def check_array(self) -> None:
        key = self.key("array.txt")
        shown = self.upload("put", key, b"x", "text/plain", callback=self.callback(FORM, "json-array"), custom=CUSTOM)
        self.receiver.take_of(key)
        expect("the array", json.loads(shown["text"]), ["array"])

    # -- callbacks that fail

    def failures(self) -> None:
        for how in ("put", "multipart", "upload_file"):
            for mode in FAILURES if how == "put" else ("500",):
                label = f"{how} whose callback answers {mode}"
                self.run(f"{how} callback", label, self.check_failure, how, mode)
        self.run("put callback", "put with a callback of an unknown type is refused", self.check_bad_callback)

    def check_failure(self, how: str, mode: str) -> None:
        """The object stays, and the client hears of it in its own way."""
        key, data = self.key(f"failed-{how}-{mode}.txt"), self.content(how, "text")
        arguments = {"callback": self.callback(FORM, mode), "custom": CUSTOM}
        try:
            shown = self.upload(how, key, data, "text/plain", **arguments)
        except Refused as refusal:
            expect_that(self.client.raises_203, "a success, as this SDK takes it", refusal)
            expect("what the SDK raised", (refusal.status or 203, refusal.code), (203, "CallbackFailed"))
            message = refusal.message
        else:
            expect_that(not self.client.raises_203, "an error", shown)
            expect("the status", shown.get("status", 203), 203)
            message = shown.get("text")
            expect_that(message or "hides_answer" in self.client.does, "the answer", shown)
        if message:
            expect_that(bool(re.search(FAILURES[mode], message)), f"a message like {FAILURES[mode]!r}", message)
        self.receiver.take_of(key)
        expect("the content, kept all the same", self.stored(key), data)

    def check_bad_callback(self) -> None:
        """Refused before anything is stored."""
        key = self.key("refused.txt")
        callback = {**self.callback(FORM), "callbackBodyType": "text/plain"}
        try:
            shown = self.upload("put", key, b"x", "text/plain", callback=callback, custom=CUSTOM)
        except Refused as refusal:
            expect("the refusal", (refusal.status, refusal.code), (400, "InvalidArgument"))
        else:
            raise AssertionError(f"expected a refusal, saw {shown}")
        expect("the status of HEAD", self.standin.signed("HEAD", key)[0], 404)

    # -- presigned requests, sent by a plain HTTP client

    def send(
        self, method: str, url: str, headers: dict[str, str], data: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        return send(method, url, headers, data)

    def presigned(self) -> None:
        for body_type in (FORM, JSON):
            name = f"a presigned PUT with a callback as {body_type}"
            self.run("presign_put presign_callback", name, self.check_presigned_put, body_type)
        self.run("presign_put", "a presigned PUT without a callback", self.check_presigned_plain)
        self.run("presign_put", "a presigned PUT that was tampered with is refused", self.check_tampered)
        self.run("presign_get", "a presigned GET", self.check_presigned_get)

    def check_presigned_put(self, body_type: str, operation: str = "presign_put") -> None:
        key, data, mime = self.key("presigned ü+.txt"), b"sent by somebody else", "text/plain"
        signed = self.client.do(
            operation, key=key, mime=mime, callback=self.callback(body_type), custom=CUSTOM
        )
        headers = {"Content-Type": mime, **signed["headers"]}
        status, answered, body = self.send("PUT", signed["url"], headers, data)
        expect(f"the status ({body!r})", status, 200)
        shown = {"text": body, "etag": answered["etag"], "request_id": answered["x-oss-request-id"]}
        self.expect_callback(key, data, mime, "PutObject", body_type, shown)

    def check_presigned_plain(self) -> None:
        key = self.key("presigned plain.txt")
        signed = self.client.do("presign_put", key=key, mime="text/plain")
        headers = {"Content-Type": "text/plain", **signed["headers"]}
        status, _, body = self.send("PUT", signed["url"], headers, b"plain")
        expect(f"the status ({body!r})", status, 200)
        expect("the content", self.stored(key), b"plain")

    def check_tampered(self) -> None:
        signed = self.client.do("presign_put", key=self.key("mine.txt"), mime="text/plain")
        headers = {"Content-Type": "text/plain", **signed["headers"]}
        status, _, body = self.send("PUT", signed["url"].replace("mine.txt", "theirs.txt"), headers, b"x")
        expect("the status", status, 403)
        expect_that(b"<Code>SignatureDoesNotMatch</Code>" in body, "SignatureDoesNotMatch", body)

    def check_presigned_get(self) -> None:
        key = self.key("to be read ü.txt")
        self.standin.signed("PUT", key, b"0123456789")
        signed = self.client.do("presign_get", key=key)
        status, _, body = self.send("GET", signed["url"], {**signed["headers"], "Range": "bytes=2-4"})
        expect("the part of the content", (status, body), (206, b"234"))

    # -- forms

    def send_form(self, url: str, fields: dict[str, str], data: bytes) -> tuple[int, dict[str, str], bytes]:
        return post_form(url, fields, data)

    def forms(self) -> None:
        for body_type in (FORM, JSON):
            name = f"a form post with a callback as {body_type}"
            self.run("post_fields", name, self.check_form, body_type)
        self.run("post_fields", "a form post whose callback fails", self.check_failed_form)
        self.run("post_fields", "a form post that its policy forbids", self.check_forbidden_form)

    def post(self, key: str, data: bytes, callback: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        expiration = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        conditions = [
            {"bucket": self.standin.bucket},
            ["content-length-range", 1, 1024],
            ["starts-with", "$key", self.key("form")],
        ]
        signed = self.client.do("post_fields", policy={"expiration": expiration, "conditions": conditions})
        fields = {
            "key": key,
            **signed["fields"],
            "callback": base64_json(callback),
            **CUSTOM,
            "success_action_status": "200",
            "Content-Type": "text/x-form",
        }
        return self.send_form(f"{self.standin.endpoint}/{self.standin.bucket}", fields, data)

    def check_form(self, body_type: str) -> None:
        key, data = self.key("form ü.txt"), b"in a part without a file name\r\n--almost a boundary"
        status, answered, body = self.post(key, data, self.callback(body_type))
        expect(f"the status ({body!r})", status, 200)
        shown = {"text": body, "etag": answered["etag"], "request_id": answered["x-oss-request-id"]}
        self.expect_callback(key, data, "text/x-form", "PostObject", body_type, shown)
        expect("the content as stored", self.stored(key), data)

    def check_failed_form(self) -> None:
        key = self.key("form failed.txt")
        status, _, body = self.post(key, b"kept", self.callback(FORM, "500"))
        expect(f"the status ({body!r})", status, 203)
        expect_that(b"<Code>CallbackFailed</Code>" in body, "CallbackFailed", body)
        self.receiver.take_of(key)
        expect("the content, kept all the same", self.stored(key), b"kept")

    def check_forbidden_form(self) -> None:
        status, _, body = self.post(self.key("elsewhere.txt"), b"x", self.callback(FORM))
        expect("the status of a key that the policy excludes", status, 403)
        expect_that(b"<Code>AccessDenied</Code>" in body, "AccessDenied", body)
        status, _, body = self.post(self.key("form long.txt"), b"x" * 1025, self.callback(FORM))
        expect("the status of a body that is too long", status, 400)
        expect_that(b"<Code>EntityTooLarge</Code>" in body, "EntityTooLarge", body)

    # -- reading

    def reading(self) -> None:
        self.run("put get", "what it stored it reads back", self.check_round_trip)
        self.run("get_range", "a part of an object", self.check_range)
        self.run("head metadata", "metadata comes back as it went", self.check_metadata)
        self.run("get_unless", "a GET unless the ETag is this one", self.check_conditional)
        self.run("get", "an object that is not there", self.check_missing)
        self.run("exists", "whether an object is there", self.check_exists)
        self.run("image_info", "the description of a picture", self.check_image_info)

    def check_round_trip(self) -> None:
        for key in map(self.key, KEYS):
            data = f"content of {key}".encode()
            self.client.do("put", key=key, data=data, mime="text/plain")
            expect(f"the content of {key}", self.client.do("get", key=key)["data"], data)
            expect(f"the content of {key} by a plain client", self.stored(key), data)

    def check_range(self) -> None:
        key = self.key("ranges.bin")
        self.standin.signed("PUT", key, b"0123456789")
        expect("bytes 2 to 4", self.client.do("get_range", key=key, first=2, last=4)["data"], b"234")
        expect("bytes from 7", self.client.do("get_range", key=key, first=7, last=9)["data"], b"789")

    def check_metadata(self) -> None:
        key, metadata = self.key("described.txt"), {"colour": "blue", "two-words": "a b"}
        self.client.do("put", key=key, data=b"12345", mime="text/x-described", metadata=metadata)
        seen = self.client.do("head", key=key)
        expect("size and type", (seen["size"], seen["mime"]), (5, "text/x-described"))
        expect("the ETag", seen["etag"].strip('"'), hashlib.md5(b"12345", usedforsecurity=False).hexdigest().upper())
        expect("the metadata", {name: seen["metadata"].get(name) for name in metadata}, metadata)

    def check_conditional(self) -> None:
        key = self.key("conditional.txt")
        self.standin.signed("PUT", key, b"same")
        etag = '"' + self.describe(key)["etag"] + '"'
        expect("another ETag", self.client.do("get_unless", key=key, etag='"0"')["data"], b"same")
        try:
            self.client.do("get_unless", key=key, etag=etag)
        except Refused as refusal:
            expect("the status", refusal.status, 304)
        else:
            raise AssertionError("expected 304 Not Modified, saw the object")

    def check_missing(self) -> None:
        try:
            self.client.do("get", key=self.key("not there.txt"))
        except Refused as refusal:
            expect("the refusal", (refusal.status, refusal.code), (404, "NoSuchKey"))
        else:
            raise AssertionError("expected NoSuchKey, saw an object")

    def check_exists(self) -> None:
        key = self.key("here.txt")
        self.standin.signed("PUT", key, b"")
        expect("an object that is there", self.client.do("exists", key=key)["exists"], True)
        expect("one that is not", self.client.do("exists", key=key + "x")["exists"], False)

    def check_image_info(self) -> None:
        key = self.key("picture.jpg")
        self.standin.signed("PUT", key, self.picture.data)
        info = json.loads(self.client.do("image_info", key=key)["data"])
        wanted = {"FileSize": str(len(self.picture.data)), "Format": "jpg", "ImageHeight": "3000", "ImageWidth": "4000"}
        expect("the description", {name: info.get(name, {}).get("value") for name in wanted}, wanted)

    # -- listing, deleting, buckets

    def listing(self) -> None:
        for version in (1, 2):
            self.run(f"list_v{version}", f"listing, version {version}", self.check_listing, version)

    def check_listing(self, version: int) -> None:
        """Page by page; keys that XML or URLs could spoil among them."""
        folder = self.key(f"list-v{version}/")
        names = sorted(["a.txt", "b & <c>.txt", "d+e %25.txt", "sub/1.txt", "sub/2.txt", "ü.txt"], key=str.encode)
        for name in names:
            self.standin.signed("PUT", folder + name, name.encode())

        def listed(prefix: str, delimiter: str, max_keys: int) -> dict[str, Any]:
            return self.client.do(f"list_v{version}", prefix=prefix, delimiter=delimiter, max_keys=max_keys)

        for max_keys in (1, 2, 100):
            seen = listed(folder, "", max_keys)
            expect(f"all keys, {max_keys} a page", seen["keys"], [folder + name for name in names])
            seen = listed(folder, "/", max_keys)
            top = [folder + name for name in names if "/" not in name]
            expect(f"keys without folders, {max_keys} a page", (seen["keys"], seen["prefixes"]), (top, [folder + "sub/"]))
        expect("by a prefix", listed(folder + "sub/2", "", 10)["keys"], [folder + "sub/2.txt"])

    def deleting(self) -> None:
        self.run("delete", "deleting, also what is not there", self.check_delete)
        self.run("delete_many", "deleting several at once", self.check_delete_many)

    def check_delete(self) -> None:
        key = self.key("goes ü.txt")
        self.standin.signed("PUT", key, b"x")
        self.client.do("delete", key=key)
        expect("the status of HEAD", self.standin.signed("HEAD", key)[0], 404)
        self.client.do("delete", key=key)

    def check_delete_many(self) -> None:
        keys = [self.key(name) for name in ("many/1.txt", "many/ü & <2>.txt", "many/+%.txt")]
        for key in keys:
            self.standin.signed("PUT", key, b"x")
        deleted = self.client.do("delete_many", keys=keys)["keys"]
        if deleted is not None:
            expect("the keys that are said to be deleted", sorted(deleted), sorted(keys))
        expect("the objects left", [key for key in keys if self.standin.signed("HEAD", key)[0] != 404], [])

    def buckets(self) -> None:
        self.run("create_bucket", "a bucket of its own", self.check_bucket)
        self.run("bucket_info", "the description of the bucket", self.check_bucket_info)

    def check_bucket(self) -> None:
        name = re.sub("[^a-z0-9]+", "-", self.client.name.lower())
        self.client.do("create_bucket", bucket=name)
        names = self.client.do("list_buckets")["names"]
        expect_that({name, self.standin.bucket} <= set(names), f"{name} and {self.standin.bucket}", names)
        self.client.do("delete_bucket", bucket=name)
        names = self.client.do("list_buckets")["names"]
        expect_that(name not in names, f"no {name}", names)

    def check_bucket_info(self) -> None:
        info = self.client.do("bucket_info")
        wanted = {"name": self.standin.bucket, "location": f"oss-{self.standin.region}"}
        expect("name and location", {field: info[field] for field in wanted}, wanted)


def post_form(url: str, fields: dict[str, str], data: bytes) -> tuple[int, dict[str, str], bytes]:
    """A form as the documentation's samples send it: the part of the file, the last, has no name of a file and no type."""
    boundary = "a-boundary-that-does-not-occur"
    parts = [*((name, value.encode()) for name, value in fields.items()), ("file", data)]
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in parts
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return send("POST", url, headers, body + f"--{boundary}--\r\n".encode())


def post_fields_v4(standin: Standin, policy: dict[str, Any]) -> dict[str, str]:
    """The fields that sign a form, version 4, as the documentation has the application make them."""
    now = datetime.now(UTC)
    day, time = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    scope = [day, standin.region, "oss", "aliyun_v4_request"]
    signed = {
        "x-oss-signature-version": "OSS4-HMAC-SHA256",
        "x-oss-credential": "/".join([standin.access_key_id, *scope]),
        "x-oss-date": time,
    }
    conditions = [*policy["conditions"], *({name: value} for name, value in signed.items())]
    text = base64_json({**policy, "conditions": conditions})
    key = ("aliyun_v4" + standin.access_key_secret).encode()
    for step in scope:
        key = hmac.digest(key, step.encode(), "sha256")
    return {"policy": text, **signed, "x-oss-signature": hmac.digest(key, text.encode(), "sha256").hex()}


def run_checks(suite: Suite, standin: Standin, clients: Iterable[Client]) -> None:
    for client in clients:
        with TemporaryDirectory() as files:
            Checks(suite, standin, client, Path(files)).all()
