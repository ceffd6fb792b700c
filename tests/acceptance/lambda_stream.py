#!/usr/bin/env python3
"""Follows the table's stream as Lambda does: an upload whose callback leaves its picture to the worker, and what becomes of it.

    python3 lambda_stream.py          in an environment with requirements.txt

The deployed package runs in the Runtime Interface Emulator, first as the function that answers callbacks, then as the worker.
Uploads and the callback's signature come from `oss-standin`; the worker's events are what the DynamoDB server in use has in its
stream, filtered as the template says.
"""

from __future__ import annotations

import sys
import tempfile
import urllib.request
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from dynamodb import TABLE, Change, Stream, dynamodb, handed_on
from harness import Suite, expect, expect_that, free_port
from lambda_edge import Emulator, build, emulated, table, unpack
from large_upload import Client
from receiver import FORM
from standin import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Standin, base64_json, standin

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "events"))
from make import Request, http_api  # noqa: E402

PATH = "/ok"
# Without the sides of the picture, so that its bytes alone tell how long it may take: too long for this budget.
BODY = "bucket=${bucket}&object=${object}&etag=${etag}&size=${size}&mimeType=${mimeType}&reqId=${reqId}"
BUDGET_MS = 2000
SIDE = 1600


def picture(shade: int) -> bytes:
    """A picture of which nothing is compressed."""
    out = BytesIO()
    Image.new("RGB", (SIDE, SIDE), (shade, 80, 160)).save(out, "PNG", compress_level=0)
    return out.getvalue()


@dataclass(frozen=True)
class House:
    """What the checks have in hand."""

    bootstrap: Path
    standin: Standin
    store: dict[str, str]
    stream: Stream
    key: Path

    def function(self, handler: str, endpoint: str | None = None) -> AbstractContextManager[Emulator]:
        """The function of that handler; its OSS is the stand-in, unless another endpoint is given."""
        environment = {
            "OSS_CALLBACK_PATH": PATH,
            "OSS_CALLBACK_BUCKETS": self.standin.bucket,
            "OSS_CALLBACK_KEYS": f"{self.standin.receiver.key_url}={self.key}",
            "OSS_CALLBACK_STORE": f"dynamodb:{TABLE}",
            "OSS_CALLBACK_BUDGET_MS": str(BUDGET_MS),
            "OSS_ENDPOINT": endpoint or self.standin.endpoint,
            "OSS_REGION": self.standin.region,
            "OSS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "OSS_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        }
        return emulated(self.bootstrap, {**environment, **self.store}, handler)

    def record(self, key: str) -> dict[str, Any]:
        return table(self.store).get_item(Key={"pk": f"{self.standin.bucket}/{key}"}, ConsistentRead=True)["Item"]


def upload(house: House, key: str, shade: int) -> dict[str, Any]:
    """The event that a gateway makes of the callback of this upload."""
    callback = {"callbackUrl": house.standin.receiver.url, "callbackBody": BODY, "callbackBodyType": FORM}
    headers = {"x-oss-callback": base64_json(callback)}
    status, _, answer = Client(house.standin).ask("PUT", key, body=picture(shade), headers=headers)
    expect(f"the status of the upload ({answer})", status, 200)
    received = house.standin.receiver.take_of(key)
    path, _, query = received.path.partition("?")
    return http_api(Request(path, query, received.headers, received.body))


def changes_of(changes: list[Change]) -> list[tuple[str, str]]:
    """Each change's record and the state that it brought."""
    images = [change["dynamodb"] for change in changes]
    return [(image["Keys"]["pk"]["S"], image["NewImage"]["state"]["S"]) for image in images]


def check_left(house: House, key: str, left: list[Change]) -> None:
    """The callback records the object and leaves the work: one change, which is handed on."""
    event = upload(house, key, len(left))
    with house.function("callback") as rie:
        expect("the outcome", rie.outcome(event), (200, "received"))
    changes = house.stream.read()
    expect("the changes", changes_of(changes), [(f"{house.standin.bucket}/{key}", "received")])
    left.extend(handed_on(changes))
    expect("those handed on", changes_of(left[-1:]), changes_of(changes))


def check_done(house: House, key: str, change: Change, done: list[Change]) -> None:
    """The worker makes the thumbnails, and OSS has them."""
    with house.function("worker") as rie:
        expect("the failures", rie.invoke({"Records": [change]}), {"batchItemFailures": []})
    record = house.record(key)
    expect("the state", record["state"], "ready")
    expect("the thumbnails", sorted(made["name"] for made in record["thumbnails"]), ["large", "small"])
    for made in record["thumbnails"]:
        status, _, data = house.standin.signed("GET", made["key"])
        expect("the status of a thumbnail", status, 200)
        expect("its size", (len(data), max(Image.open(BytesIO(data)).size)), (made["size"], made["width"]))
    done.extend(house.stream.read())
    expect_that(len(done) >= 2, "the lease and the end among the changes", changes_of(done))
    expect("the last of them", changes_of(done)[-1], (f"{house.standin.bucket}/{key}", "ready"))


def check_own_writes(house: House, key: str, done: list[Change]) -> None:
    """What the worker wrote is not handed on; and were it handed on, nothing would come of it."""
    expect("those handed on", changes_of(handed_on(done)), [])
    before = house.record(key)
    with house.function("worker") as rie:
        expect("the failures", rie.invoke({"Records": done}), {"batchItemFailures": []})
    expect("the record", house.record(key), before)
    expect("further changes", changes_of(house.stream.read()), [])


def check_put_off(house: House, key: str, change: Change) -> None:
    """Without OSS the change is named to be sent again, and putting the work off starts none."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    with house.function("worker", nowhere) as rie:
        number = change["dynamodb"]["SequenceNumber"]
        expect("the failures", rie.invoke({"Records": [change]}), {"batchItemFailures": [{"itemIdentifier": number}]})
    record = house.record(key)
    expect("what became of it", (record["state"], record["reason"]), ("received", "oss_unavailable"))
    changes = house.stream.read()
    expect("the last change", changes_of(changes)[-1], (f"{house.standin.bucket}/{key}", "received"))
    expect("those handed on", changes_of(handed_on(changes)), [])


def main() -> int:
    suite = Suite("The stream of the table")
    suite.run("cargo lambda build", build)
    if suite.failed:
        return suite.finish()
    with tempfile.TemporaryDirectory() as scratch, dynamodb() as store, standin(suite) as running:
        key = Path(scratch) / "standin.pem"
        key.write_bytes(urllib.request.urlopen(running.receiver.key_url, timeout=5).read())
        house = House(unpack(Path(scratch)), running, store, Stream(store), key)
        left: list[Change] = []
        done: list[Change] = []
        suite.run("a callback leaves its picture to the stream", check_left, house, "left.png", left)
        suite.run("another one", check_left, house, "off.png", left)
        if not suite.failed:
            suite.run("the worker makes what was left", check_done, house, "left.png", left[0], done)
            suite.run("what it wrote starts no work", check_own_writes, house, "left.png", done)
            suite.run("nor does what it puts off", check_put_off, house, "off.png", left[1])
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
