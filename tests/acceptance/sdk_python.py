#!/usr/bin/env python3
"""Uploads with the official Python SDK to the running loop, and checks all that comes of it.

python3 sdk_python.py [path of oss-callback-dev]
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

import alibabacloud_oss_v2 as oss

from harness import Loop, Suite, expect, expect_that, loop
from pictures import Picture, all_pictures, faults
from receiver import FAILURES, FORM, JSON, receiving
from standin import base64_json, callback_to

ANSWER_SECONDS = 5
CUSTOM = {"x:uid": "user 7/ü"}
TEXT_KEY = "docs/read me & höre.txt"


class Uploader:
    """The SDK as the documentation shows it, pointed at the stand-in."""

    def __init__(self, ready: dict[str, Any]) -> None:
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(
            ready["access_key_id"], ready["access_key_secret"]
        )
        config.region = ready["region"]
        config.endpoint = ready["standin"]
        self.client = oss.Client(config)
        self.ready = ready

    def put(
        self, key: str, data: bytes, mime: str, body_type: str = FORM, url: str | None = None
    ) -> oss.PutObjectResult:
        callback = callback_to(url or self.ready["callback_url"], body_type, CUSTOM)
        return self.client.put_object(
            oss.PutObjectRequest(
                bucket=self.ready["bucket"],
                key=key,
                body=data,
                content_type=mime,
                callback=base64_json(callback),
                callback_var=base64_json(CUSTOM),
            )
        )

    def get(self, bucket: str, key: str) -> bytes:
        with self.client.get_object(oss.GetObjectRequest(bucket=bucket, key=key)).body as body:
            return body.read()

    def size(self, key: str) -> int:
        return self.client.head_object(oss.HeadObjectRequest(bucket=self.ready["bucket"], key=key)).content_length


def upload(uploader: Uploader, key: str, data: bytes, mime: str, status: str, body_type: str = FORM) -> dict[str, Any]:
    """Uploads; checks all of the answer but the thumbnails; returns it."""
    begun = time.monotonic()
    result = uploader.put(key, data, mime, body_type)
    seconds = time.monotonic() - begun
    expect(f"the status of the upload ({result.callback_result})", result.status_code, 200)
    expect_that(seconds < ANSWER_SECONDS, f"an answer within {ANSWER_SECONDS} s", f"{seconds:.2f} s")
    answer = json.loads(result.callback_result)
    wanted = {
        "status": status,
        "bucket": uploader.ready["bucket"],
        "object": key,
        "etag": result.etag.strip('"'),
        "size": len(data),
        "mime": mime,
        "generation": 1,
        "confirmed": True,
        "request_id": result.request_id,
    }
    expect(f"the answer {answer}", {name: answer.get(name) for name in wanted}, wanted)
    return answer


def check_picture(uploader: Uploader, picture: Picture, answers: dict[str, Any]) -> None:
    answer = upload(uploader, picture.key, picture.data, picture.mime, "ready")
    answers[picture.key] = answer
    thumbnails = {thumbnail["name"]: thumbnail for thumbnail in answer["thumbnails"]}
    expect("the names of the thumbnails", sorted(thumbnails), sorted(picture.sizes))
    for name, thumbnail in thumbnails.items():
        data = uploader.get(thumbnail["bucket"], thumbnail["key"])
        described = thumbnail["mime"], thumbnail["size"], (thumbnail["width"], thumbnail["height"])
        expect(f"the answer about {name}", described, ("image/jpeg", len(data), picture.sizes[name]))
        expect(f"faults of {name} as stored", faults(data, picture, name), [])


def check_text(uploader: Uploader, key: str, body_type: str, answers: dict[str, Any]) -> None:
    answer = upload(uploader, key, b"Nothing to make of this.\n", "text/plain", "recorded", body_type)
    expect("the thumbnails", answer.get("thumbnails") or [], [])
    answers[key] = answer


def check_record(running: Loop, answer: dict[str, Any]) -> None:
    record = running.record(answer["object"])
    same = ["bucket", "object", "etag", "size", "mime", "generation", "confirmed"]
    expect("the record", {name: record.get(name) for name in same}, {name: answer[name] for name in same})
    expect("its state", record["state"], answer["status"])
    expect("its custom variables", record["custom"].get("uid"), CUSTOM["x:uid"])
    ledger = {entry["name"]: entry for entry in record.get("thumbnails") or []}
    for thumbnail in answer.get("thumbnails") or []:
        entry = ledger.get(thumbnail["name"], {})
        same = ["key", "width", "height", "size"]
        expect(
            f"{thumbnail['name']} in the ledger {ledger}", [entry.get(n) for n in same], [thumbnail[n] for n in same]
        )


def check_token(running: Loop, key: str) -> None:
    path = f"/records?bucket={running.ready['bucket']}&object={key}"
    for token in (None, "wrong"):
        status, answer = running.get(path, token)
        expect(f"the refusal of token {token}", (status, answer["error"]["code"]), (401, "unauthorized"))


def check_survival(running: Loop, keys: list[str]) -> None:
    before = {key: running.record(key) for key in keys}
    running.kill()
    running.start()
    expect("the records after kill -9", {key: running.record(key) for key in keys}, before)


def check_failed_callback(uploader: Uploader, url: str, key: str, message: str) -> None:
    """The client hears of it, and the object stays. This SDK takes a 203 for success: its users must look."""
    data = b"kept all the same\n"
    result = uploader.put(key, data, "text/plain", url=url)
    expect("the status of the upload", result.status_code, 203)
    expect_that(
        "<Code>CallbackFailed</Code>" in result.callback_result, "CallbackFailed in XML", result.callback_result
    )
    expect_that(bool(re.search(message, result.callback_result)), f"a message like {message!r}", result.callback_result)
    expect("the size of the object by HEAD", uploader.size(key), len(data))


def main() -> int:
    suite = Suite("Python SDK")
    answers: dict[str, Any] = {}
    with loop(suite) as running:
        uploader = Uploader(running.ready)
        for picture in all_pictures():
            suite.run(f"{picture.key} becomes two thumbnails", check_picture, uploader, picture, answers)
        suite.run("a text is recorded", check_text, uploader, "docs/plain.txt", FORM, answers)
        suite.run("a callback in JSON about a difficult key", check_text, uploader, TEXT_KEY, JSON, answers)
        for key, answer in answers.items():
            suite.run(f"the record of {key} says the same", check_record, running, answer)
        suite.run("records need the token", check_token, running, "docs/plain.txt")
        suite.run("records outlive kill -9", check_survival, running, list(answers))
        uploader = Uploader(running.ready)
        # It is only to fail: what callbacks say and prove is tried on oss-standin.
        with receiving(key_url="") as receiver:
            for mode, message in FAILURES.items():
                name, url, key = f"a callback that answers {mode}", receiver.url_of(mode), f"failed/{mode}.txt"
                suite.run(name, check_failed_callback, uploader, url, key, message)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
