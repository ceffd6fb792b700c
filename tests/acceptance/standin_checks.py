"""What every client must be able to do with the stand-in that can be asked for one thing after the other.

A client is anything with the attributes and the method of `Client`; what must come of an upload is for judge.py to say.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from harness import Suite, expect, expect_that
from judge import CUSTOM, Habits, Judge, Refused, Shown, Upload, attempt, crc64, etag_of, expect_image_info
from pictures import all_pictures
from receiver import FAILURES, FORM, JSON
from standin import Standin, base64_json, send

KEYS = (
    *("plain.txt", "a folder/two  spaces.txt", "ümlaut/深圳.txt", "plus+and%25percent%.txt"),
    "a&b=c?d#e;f~g'h(i)*!.txt",
)
PART = 100 * 1024  # the least that OSS takes for a part that is not the last
IN_PARTS = ("multipart", "upload_file", "upload_file_plain")
# Each is an operation of clients; the last ones are sent by a plain HTTP client, with a URL or a form that they signed.
WAYS = ("put", "put_stream", "put_file", "multipart", "upload_file", "presign_put", "presign_put_query", "post_fields")


class Client(Protocol):
    """One SDK in one configuration. Failures are raised as `Refused`; what it cannot do is not in `does`."""

    name: str
    does: frozenset[str]
    habits: Habits

    def do(self, operation: str, **arguments: Any) -> dict[str, Any]: ...


class Checks:
    """The checks of one client on one stand-in. Keys begin with the client's name, so clients do not meet."""

    def __init__(self, suite: Suite, standin: Standin, client: Client) -> None:
        self.suite, self.standin, self.client = suite, standin, client
        self.judge = Judge(standin, client.habits)
        self.picture = next(picture.data for picture in all_pictures() if picture.mime == "image/jpeg")

    def run(self, needs: str, name: str, check: Callable[..., Any], *arguments: Any) -> None:
        """Runs it if the client does what it needs."""
        if set(needs.split()) <= self.client.does:
            self.suite.run(f"{self.client.name}: {name}", check, *arguments)

    def key(self, name: str) -> str:
        return f"{self.client.name.replace(' ', '-')}/{name}"

    def all(self) -> None:
        for how in WAYS:
            self.uploads(how)
            self.failures(how)
        self.further_uploads()
        self.presigned()
        self.reading()
        self.deleting()
        self.buckets()

    def with_token(self) -> None:
        """What a token can spoil: what is signed."""
        for how in ("put", "presign_put", "presign_put_query"):
            self.uploads(how)
        self.run("presign_put get", "presign_put without a callback", self.check_plain_upload, "presign_put")
        self.presigned()
        self.reading()

    # -- uploads and their callbacks

    def uploads(self, how: str) -> None:
        for body_type in (FORM, JSON):
            self.run(how, f"{how} with a callback as {body_type}", self.check_upload, how, body_type)

    def failures(self, how: str) -> None:
        for body_type in (FORM, JSON):
            for mode in FAILURES if (how, body_type) == ("put", FORM) else ("500",):
                label = f"{how} whose callback as {body_type} answers {mode}"
                self.run(how, label, self.check_failure, how, body_type, mode)

    def further_uploads(self) -> None:
        for key in KEYS:
            self.run("put", f"put of the key {key}", self.check_upload, "put", JSON, key)
            self.run("multipart", f"multipart of the key {key}", self.check_upload, "multipart", FORM, key)
        for name, data in (("empty", b""), ("picture", self.picture)):
            self.run("put", f"put of {name} content", self.check_upload, "put", JSON, f"{name}.bin", data)
        self.run("put_stream", "put_stream of no content", self.check_upload, "put_stream", FORM, "no", b"")
        for how in ("put", "put_stream", "put_file", *IN_PARTS, "presign_put", "post_fields"):
            self.run(f"{how} get", f"{how} without a callback", self.check_plain_upload, how)
        self.run("put", "a callback that answers an array", self.check_array)
        self.run("put", "put with a callback of an unknown type is refused", self.check_bad_callback)
        self.run("post_fields", "a form post that its policy forbids", self.check_forbidden_form)

    def to_send(self, how: str, name: str, body_type: str = FORM, data: bytes | None = None) -> Upload:
        if data is None:
            # Several parts, and a last one that is short, where the way of uploading has parts.
            data = bytes(range(256)) * (1200 if how in IN_PARTS else 4) + b"\r\n--almost a boundary"
        return Upload(how, self.key(name), data, "text/x-one; charset=utf-8", body_type)

    def send_upload(self, upload: Upload, callback: dict[str, str] | None = None) -> Shown:
        how = upload.how
        given: dict[str, Any] = {"key": upload.key, "mime": upload.mime}
        if callback:
            given |= {"callback": callback, "custom": CUSTOM}
        if how == "post_fields":
            return self.post(upload, callback)
        if not upload.by_sdk:
            signed = self.client.do(how, **given)
            headers = {"Content-Type": upload.mime, **signed["headers"]}
            return shown_of(*self.send("PUT", signed["url"], headers, upload.data))
        if how == "multipart":
            parts = [upload.data[start : start + PART] for start in range(0, len(upload.data), PART)]
            return self.client.do(how, parts=parts, **given)
        if "file" in how:
            with TemporaryDirectory() as folder:
                path = Path(folder) / "content.bin"
                path.write_bytes(upload.data)
                size = {"part_size": PART} if how in IN_PARTS else {}
                return self.client.do(how, path=path, **size, **given)
        return self.client.do(how, data=upload.data, **given)

    def check_upload(self, how: str, body_type: str, name: str | None = None, data: bytes | None = None) -> None:
        upload = self.to_send(how, name or f"{how} ü+.txt", body_type, data)
        self.judge.succeeded(upload, self.send_upload(upload, self.judge.callback(body_type)))

    def check_failure(self, how: str, body_type: str, mode: str) -> None:
        upload = self.to_send(how, f"{how} failed {mode}.txt", body_type)
        self.judge.failed(upload, mode, attempt(self.send_upload, upload, self.judge.callback(body_type, mode)))

    def check_plain_upload(self, how: str) -> None:
        upload = self.to_send(how, f"{how} plain.bin")
        expect("the status that was shown", self.send_upload(upload).get("status", 200), 200)
        expect("the content by the client", self.client.do("get", key=upload.key)["data"], upload.data)
        headers = self.judge.head(upload.key)
        expect("the type as stored", headers["content-type"], upload.mime)
        expect("the CRC-64", int(headers["x-oss-hash-crc64ecma"]), crc64(upload.data))

    def check_array(self) -> None:
        upload = self.to_send("put", "array.txt")
        shown = self.send_upload(upload, self.judge.callback(FORM, "json-array"))
        self.standin.receiver.take_of(upload.key)
        expect("the array", json.loads(shown["answer"]), ["array"])

    def check_bad_callback(self) -> None:
        """Refused before anything is stored."""
        upload = self.to_send("put", "refused.txt")
        callback = {**self.judge.callback(FORM), "callbackBodyType": "text/plain"}
        self.judge.refused(attempt(self.send_upload, upload, callback), 400, "InvalidArgument")
        self.judge.absent(upload.key)

    # -- presigned requests and forms, sent by a plain HTTP client

    def send(
        self, method: str, url: str, headers: dict[str, str], data: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        return send(method, url, headers, data)

    def presigned(self) -> None:
        self.run("presign_put", "a presigned PUT that was tampered with is refused", self.check_tampered)
        self.run("presign_get", "a presigned GET", self.check_presigned_get)

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

    def send_form(self, url: str, fields: dict[str, str], data: bytes) -> tuple[int, dict[str, str], bytes]:
        return post_form(url, fields, data)

    def post(self, upload: Upload, callback: dict[str, str] | None) -> Shown:
        conditions = [
            {"bucket": self.standin.bucket},
            ["content-length-range", 1, 2000],
            ["starts-with", "$key", self.key("post")],
        ]
        signed = self.client.do("post_fields", policy={"expiration": in_an_hour(), "conditions": conditions})
        fields = {
            "key": upload.key,
            **signed["fields"],
            **({"callback": base64_json(callback), **CUSTOM} if callback else {}),
            "success_action_status": "200",
            "Content-Type": upload.mime,
        }
        return shown_of(*self.send_form(f"{self.standin.endpoint}/{self.standin.bucket}", fields, upload.data))

    def check_forbidden_form(self) -> None:
        for name, size, status, code in (
            ("elsewhere.txt", 1, 403, "AccessDenied"),
            ("post long.txt", 2001, 400, "EntityTooLarge"),
        ):
            shown = self.post(Upload("post_fields", self.key(name), b"x" * size), self.judge.callback(FORM))
            expect(f"the status of {name}", shown["status"], status)
            expect_that(f"<Code>{code}</Code>" in shown["answer"], code, shown["answer"])

    # -- reading and listing

    def reading(self) -> None:
        self.run("put get", "what it stored it reads back", self.check_round_trip)
        self.run("get_range", "a part of an object", self.check_range)
        self.run("head", "metadata comes back as it went", self.check_metadata)
        self.run("get_unless", "a GET unless the ETag is this one", self.check_conditional)
        self.run("get", "an object that is not there", self.check_missing)
        self.run("exists", "whether an object is there", self.check_exists)
        self.run("image_info", "the description of a picture", self.check_image_info)
        for version in (1, 2):
            self.run(f"list_v{version}", f"listing, version {version}", self.check_listing, version)

    def check_round_trip(self) -> None:
        for key in map(self.key, KEYS):
            data = f"content of {key}".encode()
            self.client.do("put", key=key, data=data, mime="text/plain")
            expect(f"the content of {key}", self.client.do("get", key=key)["data"], data)
            expect(f"the content of {key} by a plain client", self.judge.stored(key), data)

    def check_range(self) -> None:
        key = self.key("ranges.bin")
        self.standin.signed("PUT", key, b"0123456789")
        expect("bytes 2 to 4", self.client.do("get_range", key=key, first=2, last=4)["data"], b"234")
        expect("bytes from 7", self.client.do("get_range", key=key, first=7, last=9)["data"], b"789")

    def check_metadata(self) -> None:
        key, metadata = self.key("described.txt"), {"colour": "blue", "two-words": "a b"}
        self.client.do("put", key=key, data=b"12345", mime="text/x-described", metadata=metadata)
        seen = self.client.do("head", key=key)
        described = seen["size"], seen["mime"], seen["etag"].strip('"')
        expect("size, type and ETag", described, (5, "text/x-described", etag_of(b"12345")))
        expect("the metadata", {name: seen["metadata"].get(name) for name in metadata}, metadata)

    def check_conditional(self) -> None:
        key = self.key("conditional.txt")
        self.standin.signed("PUT", key, b"same")
        expect("another ETag", self.client.do("get_unless", key=key, etag='"0"')["data"], b"same")
        outcome = attempt(self.client.do, "get_unless", key=key, etag=self.judge.head(key)["etag"])
        expect_that(isinstance(outcome, Refused) and outcome.status == 304, "304 Not Modified", outcome)

    def check_missing(self) -> None:
        outcome = attempt(self.client.do, "get", key=self.key("not there.txt"))
        self.judge.refused(outcome, 404, "NoSuchKey")

    def check_exists(self) -> None:
        key = self.key("here.txt")
        self.standin.signed("PUT", key, b"")
        expect("an object that is there", self.client.do("exists", key=key)["exists"], True)
        expect("one that is not", self.client.do("exists", key=key + "x")["exists"], False)

    def check_image_info(self) -> None:
        key = self.key("picture.jpg")
        self.standin.signed("PUT", key, self.picture)
        expect_image_info(self.client.do("image_info", key=key)["data"], self.picture)

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
            found = seen["keys"], seen["prefixes"]
            expect(f"keys without folders, {max_keys} a page", found, (top, [folder + "sub/"]))
        expect("by a prefix", listed(folder + "sub/2", "", 10)["keys"], [folder + "sub/2.txt"])

    # -- deleting, buckets

    def deleting(self) -> None:
        self.run("delete", "deleting, also what is not there", self.check_delete)
        self.run("delete_many", "deleting several at once", self.check_delete_many)

    def check_delete(self) -> None:
        key = self.key("goes ü.txt")
        self.standin.signed("PUT", key, b"x")
        self.client.do("delete", key=key)
        self.judge.absent(key)
        self.client.do("delete", key=key)

    def check_delete_many(self) -> None:
        keys = [self.key(name) for name in ("many/1.txt", "many/ü & <2>.txt", "many/+%.txt")]
        for key in keys:
            self.standin.signed("PUT", key, b"x")
        deleted = self.client.do("delete_many", keys=keys)["keys"]
        expect("the keys that are said to be deleted", sorted(deleted), sorted(keys))
        for key in keys:
            self.judge.absent(key)

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


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def shown_of(status: int, headers: dict[str, str], body: bytes) -> Shown:
    """What a plain client was answered. It, and a page too, can read the ETag and the request's number."""
    return {
        "status": status,
        "answer": body.decode(),
        "etag": headers["etag"] if status == 200 else None,
        "request_id": headers["x-oss-request-id"],
        "crc64": headers.get("x-oss-hash-crc64ecma"),
    }


def post_form(url: str, fields: dict[str, str], data: bytes) -> tuple[int, dict[str, str], bytes]:
    """A form as the documentation's samples send it: the part of the file, the last, has no file's name and no type."""
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
