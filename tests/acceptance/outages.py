#!/usr/bin/env python3
"""OSS fails the server in every way for half a minute; every callback is answered in time, and nothing is lost.

    python3 outages.py [path of oss-standin]

Each fault strikes one operation in a bucket of its own, all at the same time, for uploads of one client. Beside that:
one callback many times at once, and again after each kind of restart.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import Suite, expect, expect_that
from invariants import OUTPUT, head, judge, listed, of_answers, summary
from pictures import photo, tiny
from server import Server, serving
from signer import Callback, Signer
from standin import Standin, standin
from uploads import Told, Uploads

OUTAGE_SECONDS = 30
UPLOADS = 20
REST_SECONDS = 120
TIMES = 10
DOUBLED = "doubled"
# Uploaders store objects in the same OSS; what the server stores lies under its output prefix.
OPERATIONS = {"head": "HeadObject", "get": "GetObject", "put": f"PutObject,prefix={OUTPUT}"}
FAULTS = ("hang", "slow=30s", "status=503", "status=500", "reset", "answer-lost")
# There is nothing to cut off in answers to HEAD and PUT.
OUTAGES = [*product(FAULTS, OPERATIONS), ("truncate", "get")]
# How those are answered that met the outage.
UNFINISHED = {"head": {"unverified"}, "get": {"received", "processing"}, "put": {"received", "processing"}}


def bucket_of(fault: str, operation: str) -> str:
    return f"{operation}-{fault.replace('=', '-')}"


def arm(standin: Standin, outages: list[tuple[str, str]]) -> None:
    standin.arm(*(f"{fault},bucket={bucket_of(fault, op)},operation={OPERATIONS[op]}" for fault, op in outages))


def upload_for(uploads: Uploads, seconds: float) -> None:
    """So many uploads, spread over this time."""
    begun = time.monotonic()
    for number in range(UPLOADS):
        time.sleep(max(0.0, begun + seconds * number / UPLOADS - time.monotonic()))
        uploads.put_next()
    time.sleep(max(0.0, begun + seconds - time.monotonic()))


def suffer(standin: Standin, uploads: dict[tuple[str, str], Uploads]) -> None:
    """All outages at once."""
    arm(standin, list(uploads))
    try:
        with ThreadPoolExecutor(len(uploads)) as threads:
            for done in [threads.submit(upload_for, client, OUTAGE_SECONDS) for client in uploads.values()]:
                done.result()
    finally:
        standin.arm()


def check_answers(told: list[Told], operation: str) -> None:
    expect("what is broken", summary(of_answers(told)), [])
    expect("uploads that were not answered 200", [upload for upload in told if upload.status != 200], [])
    statuses = {upload.answer["status"] for upload in told}
    expect_that(bool(statuses & UNFINISHED[operation]), f"one of {UNFINISHED[operation]} (did it strike?)", statuses)
    print(f"        {len(told)} answers, the slowest after {max(upload.seconds for upload in told):.2f} s")


def check_recovery(server: Server, standin: Standin, uploads: Uploads) -> None:
    expect("what is broken", summary(judge(server, standin, uploads, REST_SECONDS, by_itself=True)), [])


def at_once(callback: Callback) -> list[tuple[int, dict]]:
    """The answers to so many of the same."""
    barrier = threading.Barrier(TIMES)

    def send() -> tuple[int, dict]:
        barrier.wait()
        return callback.send()

    with ThreadPoolExecutor(TIMES) as threads:
        return [answer.result() for answer in [threads.submit(send) for _ in range(TIMES)]]


def check_doubled(server: Server, standin: Standin, uploads: Uploads, key: str, data: bytes, mime: str) -> None:
    status, _, _ = standin.signed("PUT", key, data, mime)
    expect("the status of the upload", status, 200)
    etag, size, _ = head(standin, key)
    variables = {"bucket": standin.bucket, "object": key, "etag": etag, "size": str(size), "mimeType": mime}
    variables |= {"reqId": "6B09C0253C7810523CC439EB", "uid": "7"}
    callback = Signer.of(standin.data, standin.receiver.key_url).callback(server.callback_url, variables)
    early = at_once(callback)
    expect("statuses and generations", {(status, body["generation"]) for status, body in early}, {(200, 1)})
    # A large picture may take longer than anybody waits; equal answers are owed from then on.
    record = server.wait_until_at_rest(standin.bucket, REST_SECONDS)[key]
    answers = at_once(callback)
    first = answers[0]
    wanted = ("ready", 2) if mime.startswith("image/") else ("recorded", 0)
    expect(f"the answer {first}", (first[1]["status"], len(first[1]["thumbnails"])), wanted)
    expect("answers unlike the first", [answer for answer in answers if answer != first], [])
    ended = [answer for answer in early if answer[1]["status"] == wanted[0]]
    expect("earlier final answers unlike it", [answer for answer in ended if answer != first], [])
    server.program.stop()
    server.start()
    expect("the answer after a restart", callback.send(), first)
    server.program.kill()
    server.start()
    expect("the answer after kill -9", callback.send(), first)
    expect("the record", server.record(standin.bucket, key), record)
    made = {line["key"] for line in record["thumbnails"]}
    stored = [output for output in listed(uploads, standin.bucket) if output.startswith(OUTPUT)]
    expect("the thumbnails in OSS", made - set(stored), set())
    puts = [event for event in standin.journal() if event.get("operation") == "PutObject" and event.get("key") in made]
    expect("how often thumbnails were stored", len(puts), len(made))


def main() -> int:
    suite = Suite("OSS fails, and callbacks come again")
    with standin(suite) as oss, TemporaryDirectory() as scratch:
        standins = {outage: oss.of_bucket(bucket_of(*outage)) for outage in OUTAGES}
        doubled = oss.of_bucket(DOUBLED)
        buckets = [standin.bucket for standin in (*standins.values(), doubled)]
        with serving(oss, Path(scratch), buckets) as server:
            uploads = {outage: Uploads(standin, server.callback_url) for outage, standin in standins.items()}
            suite.run(f"{OUTAGE_SECONDS} s with {len(OUTAGES)} outages", suffer, oss, uploads)
            for (fault, operation), client in uploads.items():
                name = f"{fault} at {OPERATIONS[operation]}: every answer is JSON, in time"
                suite.run(name, check_answers, client.told, operation)
            for (fault, operation), client in uploads.items():
                name = f"{fault} at {OPERATIONS[operation]}: all becomes ready by itself"
                suite.run(name, check_recovery, server, standins[fault, operation], client)
            client = Uploads(doubled, server.callback_url)
            upright = photo()
            mime, picture = tiny()[0]
            for key, data, kind in (
                ("a.txt", b"text\n", "text/plain"),
                ("tiny.png", picture, mime),
                (upright.key, upright.data, upright.mime),
            ):
                name = f"{key}: its callback {TIMES} times at once and after restarts is one"
                suite.run(name, check_doubled, server, doubled, client, key, data, kind)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
