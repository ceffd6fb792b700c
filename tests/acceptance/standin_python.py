#!/usr/bin/env python3
"""Both Python SDKs on the stand-in: alibabacloud-oss-v2 and oss2, with every version of signatures they know.

    python3 standin_python.py [path of oss-standin]
"""

from __future__ import annotations

import base64
import hmac
import sys
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import alibabacloud_oss_v2 as oss
import oss2
from oss2.models import PartInfo

from harness import Suite, expect, expect_that
from judge import Habits, Refused, Shown, attempt
from receiver import FORM, Receiver
from standin import Standin, base64_json, send, standin
from standin_checks import Checks, post_fields_v4

COMMON = {
    *("put", "put_stream", "put_file", "multipart", "presign_put", "presign_get", "post_fields"),
    *("get", "get_range", "get_unless", "head", "exists", "image_info"),
    *("list_v1", "list_v2", "delete", "delete_many", "create_bucket", "bucket_info"),
}
CHUNK = 1000


def chunks(data: bytes) -> Iterator[bytes]:
    return (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))


class SdkV2:
    """alibabacloud-oss-v2. It checks the CRC-64 of every answer, and takes a 203 for a success."""

    # Its uploader does not return the callback's answer.
    habits = Habits(raises_203=False, hides_answer=("upload_file",))

    def __init__(self, standin: Standin, version: str, token: str | None = None) -> None:
        self.name = f"alibabacloud-oss-v2 {version}{' with a token' if token else ''}"
        # By version 1 it leaves x-oss-process out of what it signs, which OSS refuses.
        self.does = frozenset({*COMMON, "upload_file"} - ({"image_info"} if version == "v1" else set()))
        self.standin = standin
        self.bucket = standin.bucket
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(
            standin.access_key_id, standin.access_key_secret, token
        )
        config.region, config.endpoint, config.signature_version = standin.region, standin.endpoint, version
        self.client = oss.Client(config)

    def do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            return getattr(self, operation)(**arguments)
        except (oss.exceptions.OperationError, oss.uploader.UploadError) as fault:
            cause: Any = fault
            while hasattr(cause, "unwrap"):
                cause = cause.unwrap()
            if not isinstance(cause, oss.exceptions.ServiceError):
                raise
            raise Refused(cause.status_code, cause.code, cause.message or "") from None

    @staticmethod
    def callback_of(callback: dict[str, str] | None, custom: dict[str, str] | None) -> dict[str, str]:
        return {"callback": base64_json(callback), "callback_var": base64_json(custom)} if callback else {}

    def request(self, key: str, mime: str, callback: Any, custom: Any, **more: Any) -> oss.PutObjectRequest:
        return oss.PutObjectRequest(
            bucket=self.bucket, key=key, content_type=mime, **self.callback_of(callback, custom), **more
        )

    @staticmethod
    def shown(result: Any) -> Shown:
        return {
            "status": result.status_code,
            "etag": result.etag or result.headers.get("ETag"),
            "request_id": result.request_id,
            "answer": getattr(result, "callback_result", None),
        }

    def put(
        self, key: str, data: Any, mime: str, callback: Any = None, custom: Any = None, metadata: Any = None
    ) -> dict[str, Any]:
        request = self.request(key, mime, callback, custom, body=data, metadata=metadata)
        return self.shown(self.client.put_object(request))

    def put_stream(self, data: bytes, **more: Any) -> dict[str, Any]:
        return self.put(data=chunks(data), **more)

    def put_file(self, path: Path, key: str, mime: str, callback: Any = None, custom: Any = None) -> dict[str, Any]:
        request = self.request(key, mime, callback, custom)
        return self.shown(self.client.put_object_from_file(request, str(path)))

    def multipart(
        self, key: str, parts: list[bytes], mime: str, callback: Any = None, custom: Any = None
    ) -> dict[str, Any]:
        target = {"bucket": self.bucket, "key": key}
        begun = self.client.initiate_multipart_upload(
            oss.InitiateMultipartUploadRequest(**target, content_type=mime)
        )
        expect("the key of the upload", begun.key, key)
        target["upload_id"] = begun.upload_id
        uploaded = []
        for number, data in enumerate(parts, 1):
            part = self.client.upload_part(oss.UploadPartRequest(**target, part_number=number, body=data))
            uploaded.append(oss.UploadPart(part_number=number, etag=part.etag))
        listed = self.client.list_parts(oss.ListPartsRequest(**target))
        sizes = [(part.part_number, part.size) for part in listed.parts]
        expect("the parts as listed", sizes, [(number, len(data)) for number, data in enumerate(parts, 1)])
        done = self.client.complete_multipart_upload(
            oss.CompleteMultipartUploadRequest(
                **target,
                complete_multipart_upload=oss.CompleteMultipartUpload(parts=uploaded),
                **self.callback_of(callback, custom),
            )
        )
        return self.shown(done)

    def upload_file(
        self, key: str, path: Path, part_size: int, mime: str, callback: Any = None, custom: Any = None
    ) -> dict[str, Any]:
        request = self.request(key, mime, callback, custom)
        return self.shown(self.client.uploader(part_size=part_size).upload_file(request, str(path)))

    def presign_put(self, key: str, mime: str, callback: Any = None, custom: Any = None) -> dict[str, Any]:
        signed = self.client.presign(self.request(key, mime, callback, custom), expires=timedelta(minutes=5))
        return {"url": signed.url, "headers": dict(signed.signed_headers)}

    def presign_get(self, key: str) -> dict[str, Any]:
        signed = self.client.presign(oss.GetObjectRequest(bucket=self.bucket, key=key), expires=timedelta(minutes=5))
        return {"url": signed.url, "headers": dict(signed.signed_headers)}

    def post_fields(self, policy: dict[str, Any]) -> dict[str, Any]:
        return {"fields": post_fields_v4(self.standin, policy)}

    def get(self, key: str, **more: Any) -> dict[str, Any]:
        with self.client.get_object(oss.GetObjectRequest(bucket=self.bucket, key=key, **more)).body as body:
            return {"data": body.read()}

    def get_range(self, key: str, first: int, last: int) -> dict[str, Any]:
        return self.get(key, range_header=f"bytes={first}-{last}")

    def get_unless(self, key: str, etag: str) -> dict[str, Any]:
        return self.get(key, if_none_match=etag)

    def image_info(self, key: str) -> dict[str, Any]:
        return self.get(key, process="image/info")

    def head(self, key: str) -> dict[str, Any]:
        found = self.client.head_object(oss.HeadObjectRequest(bucket=self.bucket, key=key))
        meta = self.client.get_object_meta(oss.GetObjectMetaRequest(bucket=self.bucket, key=key))
        expect("what GetObjectMeta says", (meta.etag, meta.content_length), (found.etag, found.content_length))
        described = {"size": found.content_length, "mime": found.content_type, "etag": found.etag}
        return {**described, "metadata": dict(found.metadata or {})}

    def exists(self, key: str) -> dict[str, Any]:
        expect("that the bucket exists", self.client.is_bucket_exist(self.bucket), True)
        expect("that another does", self.client.is_bucket_exist("no-such-bucket"), False)
        return {"exists": self.client.is_object_exist(self.bucket, key)}

    def list_v1(self, prefix: str, delimiter: str, max_keys: int) -> dict[str, Any]:
        pages = self.client.list_objects_paginator(limit=max_keys)
        request = oss.ListObjectsRequest(bucket=self.bucket, prefix=prefix, delimiter=delimiter or None)
        return self.listed(pages.iter_page(request))

    def list_v2(self, prefix: str, delimiter: str, max_keys: int) -> dict[str, Any]:
        pages = self.client.list_objects_v2_paginator(limit=max_keys)
        request = oss.ListObjectsV2Request(bucket=self.bucket, prefix=prefix, delimiter=delimiter or None)
        return self.listed(pages.iter_page(request))

    @staticmethod
    def listed(pages: Any) -> dict[str, Any]:
        keys, prefixes = [], []
        for page in pages:
            keys += [entry.key for entry in page.contents or []]
            prefixes += [entry.prefix for entry in page.common_prefixes or []]
        return {"keys": keys, "prefixes": prefixes}

    def delete(self, key: str) -> dict[str, Any]:
        self.client.delete_object(oss.DeleteObjectRequest(bucket=self.bucket, key=key))
        return {}

    def delete_many(self, keys: list[str]) -> dict[str, Any]:
        objects = [oss.DeleteObject(key=key) for key in keys]
        done = self.client.delete_multiple_objects(
            oss.DeleteMultipleObjectsRequest(bucket=self.bucket, objects=objects, encoding_type="url")
        )
        return {"keys": [entry.key for entry in done.deleted_objects]}

    def create_bucket(self, bucket: str) -> dict[str, Any]:
        self.client.put_bucket(oss.PutBucketRequest(bucket=bucket))
        return {}

    def delete_bucket(self, bucket: str) -> dict[str, Any]:
        self.client.delete_bucket(oss.DeleteBucketRequest(bucket=bucket))
        return {}

    def list_buckets(self) -> dict[str, Any]:
        pages = self.client.list_buckets_paginator(limit=1).iter_page(oss.ListBucketsRequest())
        return {"names": [bucket.name for page in pages for bucket in page.buckets or []]}

    def bucket_info(self) -> dict[str, Any]:
        info = self.client.get_bucket_info(oss.GetBucketInfoRequest(bucket=self.bucket)).bucket_info
        location = self.client.get_bucket_location(oss.GetBucketLocationRequest(bucket=self.bucket)).location
        return {"name": info.name, "location": location if location == info.location else (location, info.location)}


class Oss2:
    """oss2. It checks the CRC-64 of every answer, and takes a 203 for a success."""

    habits = Habits(raises_203=False)
    # Its resumable upload sends the callback with the request that begins the upload, so that it is never called.
    does = frozenset({*COMMON, "upload_file_plain"})

    def __init__(self, standin: Standin, version: str, token: str | None = None) -> None:
        self.name = f"oss2 {version}{' with a token' if token else ''}"
        credentials = standin.access_key_id, standin.access_key_secret
        if token:
            self.auth: Any = oss2.StsAuth(*credentials, token, auth_version=version)
        else:
            self.auth = {"v1": oss2.Auth, "v2": oss2.AuthV2, "v4": oss2.AuthV4}[version](*credentials)
        self.standin, self.version = standin, version
        self.bucket = self.bucket_of(standin.bucket)

    def bucket_of(self, name: str) -> oss2.Bucket:
        return oss2.Bucket(self.auth, self.standin.endpoint, name, region=self.standin.region)

    def do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            return getattr(self, operation)(**arguments)
        except oss2.exceptions.ServerError as fault:
            raise Refused(fault.status, fault.code, fault.message) from None

    @staticmethod
    def headers_of(mime: str, callback: Any, custom: Any, metadata: Any = None) -> dict[str, str]:
        headers = {"Content-Type": mime} if mime else {}
        headers |= {f"x-oss-meta-{name}": value for name, value in (metadata or {}).items()}
        if callback:
            headers |= {"x-oss-callback": base64_json(callback), "x-oss-callback-var": base64_json(custom)}
        return headers

    @staticmethod
    def shown(result: Any, with_callback: bool) -> Shown:
        # Without a callback the SDK has thrown the body away.
        answer = result.resp.response.text if with_callback else None
        return {"status": result.status, "etag": result.etag, "request_id": result.request_id, "answer": answer}

    def put(
        self, key: str, data: Any, mime: str, callback: Any = None, custom: Any = None, metadata: Any = None
    ) -> dict[str, Any]:
        headers = self.headers_of(mime, callback, custom, metadata)
        return self.shown(self.bucket.put_object(key, data, headers=headers), callback is not None)

    def put_stream(self, data: bytes, **more: Any) -> dict[str, Any]:
        return self.put(data=oss2.SizedFileAdapter(BytesIO(data), len(data)), **more)

    def put_file(self, path: Path, key: str, mime: str, callback: Any = None, custom: Any = None) -> dict[str, Any]:
        headers = self.headers_of(mime, callback, custom)
        return self.shown(
            self.bucket.put_object_from_file(key, str(path), headers=headers), callback is not None
        )

    def multipart(
        self, key: str, parts: list[bytes], mime: str, callback: Any = None, custom: Any = None
    ) -> dict[str, Any]:
        begun = self.bucket.init_multipart_upload(key, headers={"Content-Type": mime})
        uploaded = []
        for number, data in enumerate(parts, 1):
            part = self.bucket.upload_part(key, begun.upload_id, number, data)
            uploaded.append(PartInfo(number, part.etag, size=len(data), part_crc=part.crc))
        sizes = [(part.part_number, part.size) for part in oss2.PartIterator(self.bucket, key, begun.upload_id)]
        expect("the parts as listed", sizes, [(number, len(data)) for number, data in enumerate(parts, 1)])
        headers = self.headers_of("", callback, custom)
        done = self.bucket.complete_multipart_upload(key, begun.upload_id, uploaded, headers=headers)
        return self.shown(done, callback is not None)

    def upload_file_plain(self, key: str, path: Path, part_size: int, mime: str) -> dict[str, Any]:
        with TemporaryDirectory() as checkpoints:
            result = oss2.resumable_upload(
                self.bucket,
                key,
                str(path),
                store=oss2.ResumableStore(root=checkpoints),
                headers={"Content-Type": mime},
                multipart_threshold=part_size,
                part_size=part_size,
                num_threads=2,
            )
        return self.shown(result, False)

    def presign_put(self, key: str, mime: str, callback: Any = None, custom: Any = None) -> dict[str, Any]:
        """The callback stands in the query, where the bearer of the URL cannot change it."""
        params = {"callback": base64_json(callback), "callback-var": base64_json(custom)} if callback else {}
        headers = {"Content-Type": mime}
        return {"url": self.bucket.sign_url("PUT", key, 300, headers=headers, params=params), "headers": headers}

    def presign_get(self, key: str) -> dict[str, Any]:
        return {"url": self.bucket.sign_url("GET", key, 300, slash_safe=True), "headers": {}}

    def post_fields(self, policy: dict[str, Any]) -> dict[str, Any]:
        """Version 1, as its samples do."""
        if self.version != "v1":
            return {"fields": post_fields_v4(self.standin, policy)}
        text = base64_json(policy)
        digest = hmac.digest(self.standin.access_key_secret.encode(), text.encode(), "sha1")
        signature = base64.b64encode(digest).decode()
        return {"fields": {"OSSAccessKeyId": self.standin.access_key_id, "policy": text, "Signature": signature}}

    def get(self, key: str, **more: Any) -> dict[str, Any]:
        return {"data": self.bucket.get_object(key, **more).read()}

    def get_range(self, key: str, first: int, last: int) -> dict[str, Any]:
        return self.get(key, byte_range=(first, last))

    def get_unless(self, key: str, etag: str) -> dict[str, Any]:
        return self.get(key, headers={"If-None-Match": etag})

    def image_info(self, key: str) -> dict[str, Any]:
        return self.get(key, process="image/info")

    def head(self, key: str) -> dict[str, Any]:
        found = self.bucket.head_object(key)
        meta = self.bucket.get_object_meta(key)
        expect("what GetObjectMeta says", (meta.etag, meta.content_length), (found.etag, found.content_length))
        prefix = "x-oss-meta-"
        metadata = {name.lower().removeprefix(prefix): value for name, value in found.headers.items()}
        return {
            "size": found.content_length,
            "mime": found.content_type,
            "etag": found.etag,
            "metadata": metadata,
        }

    def exists(self, key: str) -> dict[str, Any]:
        return {"exists": self.bucket.object_exists(key)}

    def list_v1(self, prefix: str, delimiter: str, max_keys: int) -> dict[str, Any]:
        return self.listed(oss2.ObjectIterator(self.bucket, prefix=prefix, delimiter=delimiter, max_keys=max_keys))

    def list_v2(self, prefix: str, delimiter: str, max_keys: int) -> dict[str, Any]:
        return self.listed(oss2.ObjectIteratorV2(self.bucket, prefix=prefix, delimiter=delimiter, max_keys=max_keys))

    @staticmethod
    def listed(entries: Any) -> dict[str, Any]:
        entries = list(entries)
        return {
            "keys": [entry.key for entry in entries if not entry.is_prefix()],
            "prefixes": [entry.key for entry in entries if entry.is_prefix()],
        }

    def delete(self, key: str) -> dict[str, Any]:
        self.bucket.delete_object(key)
        return {}

    def delete_many(self, keys: list[str]) -> dict[str, Any]:
        return {"keys": self.bucket.batch_delete_objects(keys).deleted_keys}

    def create_bucket(self, bucket: str) -> dict[str, Any]:
        self.bucket_of(bucket).create_bucket()
        return {}

    def delete_bucket(self, bucket: str) -> dict[str, Any]:
        self.bucket_of(bucket).delete_bucket()
        return {}

    def list_buckets(self) -> dict[str, Any]:
        service = oss2.Service(self.auth, self.standin.endpoint, region=self.standin.region)
        return {"names": [bucket.name for bucket in oss2.BucketIterator(service, max_keys=1)]}

    def bucket_info(self) -> dict[str, Any]:
        info = self.bucket.get_bucket_info()
        location = self.bucket.get_bucket_location().location
        return {"name": info.name, "location": location if location == info.location else (location, info.location)}


def check_version_2(standin: Standin) -> None:
    """OSS refuses it in new regions, and so does the stand-in, saying what it did not like."""
    outcome = attempt(Oss2(standin, "v2").do, "put", key="version 2.txt", data=b"x", mime="text/plain")
    expect_that(isinstance(outcome, Refused) and outcome.status in (400, 403), "400 or 403", outcome)
    expect_that("2" in outcome.message and "ersion" in outcome.message, "the version in the message", outcome)


def check_unsigned_token(client: SdkV2) -> None:
    """A token that the signature does not cover is not the uploader's."""
    signed = client.do("presign_put", key="token.txt", mime="text/plain")
    headers = {"Content-Type": "text/plain", **signed["headers"], "x-oss-security-token": "added"}
    status, _, body = send("PUT", signed["url"], headers, b"x")
    expect_that(status == 403, "403", (status, body))


def check_forged_callback(receiver: Receiver) -> None:
    """What these checks rest on: the receiver knows a callback that nobody signed."""
    status, _, _ = send("POST", receiver.url, {"Content-Type": FORM, "Authorization": "AAAA"}, b"object=forged")
    expect("the status", status, 200)
    try:
        receiver.take_of("forged")
    except AssertionError as fault:
        expect_that("is not proven" in str(fault), "a callback that is not proven", fault)
    else:
        raise AssertionError("a forged callback passed for a genuine one")


def main() -> int:
    suite = Suite("Python SDKs on the stand-in")
    with standin(suite) as running:
        suite.run("a forged callback is noticed", check_forged_callback, running.receiver)
        clients = [
            *(SdkV2(running, version) for version in ("v4", "v1")),
            *(Oss2(running, version) for version in ("v1", "v4")),
        ]
        for client in clients:
            Checks(suite, running, client).all()
        for client in (SdkV2(running, "v4", "a/token+="), Oss2(running, "v1", "a/token+="), Oss2(running, "v4", "t")):
            Checks(suite, running, client).with_token()
        suite.run("oss2 v2 is refused by its version", check_version_2, running)
        suite.run("a token beside the signature is refused", check_unsigned_token, SdkV2(running, "v1"))
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
