"""The invariants of the records, judged from outside: by the read routes, by OSS, and by what clients were told.

I1  whoever was answered 200 finds a record of that generation or a later one
I2  at rest, the record of every object has the ETag that HEAD tells
I3  generations never go back, and one generation has one ETag
I4  `ready` means that the thumbnails are in OSS, as they should look
I5  exactly one set of thumbnails of the current version
I6  nothing stays `processing`, and no work is begun too often
I9  every answer is JSON, in time
I10 a second reconcile writes nothing
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import alibabacloud_oss_v2 as oss

from harness import expect
from pictures import unlike
from server import Record, Server
from standin import Standin
from uploads import Told, Uploads

ANSWER_SECONDS = 5
MOST_ATTEMPTS = 5
OUTPUT = "thumbnails/"
SIDES = {"small": 256, "large": 800}


def of_answers(told: Iterable[Told]) -> list[str]:
    """I9 and I3 as far as clients see them: of a server that does not answer, or with an error, they are told 203."""
    found = []
    etags: dict[tuple[str, int], set[str]] = {}
    for upload in told:
        if upload.status not in (200, 203):
            found.append(f"I9: {upload.key}: status {upload.status}: {upload.text}")
        elif upload.seconds >= ANSWER_SECONDS:
            found.append(f"I9: {upload.key}: answered after {upload.seconds:.2f} s")
        elif answer := upload.answer:
            if answer.get("object") != upload.key or "generation" not in answer:
                found.append(f"I9: {upload.key}: answered {answer}")
            elif answer["confirmed"]:
                etags.setdefault((upload.key, answer["generation"]), set()).add(answer["etag"])
    several = {version: seen for version, seen in etags.items() if len(seen) > 1}
    found += [f"I3: {version} was answered with several ETags: {seen}" for version, seen in several.items()]
    return found


def of_promises(told: Iterable[Told], records: dict[str, Record]) -> list[str]:
    """I1: what was promised is there, whatever happened since."""
    found = []
    for upload in told:
        if not (answer := upload.answer) or "generation" not in answer:
            continue
        record = records.get(upload.key)
        if record is None or record["generation"] < answer["generation"]:
            found.append(f"I1: {upload.key}: answered {answer}, the record is {record}")
        elif record["generation"] == answer["generation"] and answer["confirmed"] and record["etag"] != answer["etag"]:
            found.append(f"I3: {upload.key}: one generation, two ETags: answered {answer}, the record is {record}")
    return found


def of_progress(earlier: dict[str, Record], later: dict[str, Record]) -> list[str]:
    """I3: from one look at the records to the next."""
    found = []
    for key, before in earlier.items():
        after = later.get(key)
        if after is None or (after["generation"], after["revision"]) < (before["generation"], before["revision"]):
            found.append(f"I3: {key} went back from {before} to {after}")
        elif after["generation"] == before["generation"] and before["confirmed"] and after["etag"] != before["etag"]:
            found.append(f"I3: {key}: one generation, two ETags: {before}, then {after}")
    return found


def of_records_at_rest(standin: Standin, uploads: Uploads, records: dict[str, Record]) -> list[str]:
    """I2, I4, I5 and I6 for every object of the bucket."""
    found = []
    keys = set(listed(uploads, standin.bucket))
    outputs = {key for key in keys if key.startswith(OUTPUT)}
    for key in sorted(keys - outputs):
        record = records.get(key)
        if record is None:
            found.append(f"I2: {key} has no record")
            continue
        described = record["etag"], record["size"], record["mime"], record["confirmed"]
        truth = *head(standin, key), True
        if described != truth:
            found.append(f"I2: {key}: HEAD says {truth}, the record {described}: {record}")
        if record["state"] == "processing" or record["attempts"] > MOST_ATTEMPTS:
            found.append(f"I6: {key}: {record}")
        wanted = "ready" if record["mime"].startswith("image/") else "recorded"
        if record["state"] != wanted:
            found.append(f"I4: {key}: expected {wanted}, saw {record}")
        if wanted == "ready" == record["state"]:
            found += of_thumbnails(standin, record, outputs)
    found += [f"I2: {key} is gone, its record is {records[key]}" for key in gone(records, keys)]
    return found


def of_thumbnails(standin: Standin, record: Record, outputs: set[str]) -> list[str]:
    """I4 and I5 for a record that is `ready`."""
    found = []
    key = record["object"]
    ledger = {line["name"]: line for line in record["thumbnails"]}
    if sorted(ledger) != sorted(SIDES) or len(record["thumbnails"]) != len(SIDES):
        return [f"I4: {key}: the ledger is {record['thumbnails']}"]
    source = standin.signed("GET", key)[2]
    for name, line in ledger.items():
        status, _, thumbnail = standin.signed("GET", line["key"])
        if status != 200 or len(thumbnail) != line["size"]:
            found.append(f"I4: {key}: {name} is {line}, GET says {status} and {len(thumbnail)} bytes")
            continue
        found += [f"I4: {key}: {name}: {fault}" for fault in unlike(thumbnail, source, SIDES[name])]
    folders = {line["key"].rpartition("/")[0] for line in ledger.values()}
    stored = {output for output in outputs if output.rpartition("/")[0] in folders}
    if len(folders) != 1 or stored != {line["key"] for line in ledger.values()}:
        found.append(f"I5: {key}: the ledger is {record['thumbnails']}, stored are {sorted(stored)}")
    return found


def head(standin: Standin, key: str) -> tuple[str, int, str]:
    """What OSS says of an object: its ETag, size and type."""
    status, headers, _ = standin.signed("HEAD", key)
    expect(f"the status of HEAD {key}", status, 200)
    return headers["etag"].strip('"'), int(headers["content-length"]), headers["content-type"]


def gone(records: dict[str, Record], keys: set[str]) -> list[str]:
    """Whose records do not know yet that their objects are gone."""
    return [key for key, record in records.items() if key not in keys and record["state"] != "deleted"]


def listed(uploads: Uploads, bucket: str) -> list[str]:
    """The keys of all objects."""
    pages = uploads.client.list_objects_v2_paginator().iter_page(oss.ListObjectsV2Request(bucket=bucket))
    return [item.key for page in pages for item in page.contents or []]


def judge(
    server: Server, standin: Standin, uploads: Uploads, rest_seconds: float, by_itself: bool = False
) -> list[str]:
    """A server that runs again after whatever happened: all invariants at once; what is broken.

    `by_itself` where no callback was lost, so that there is nothing for the first reconcile to repair either.
    """
    found = of_answers(uploads.told)
    awake = server.records(standin.bucket)
    found += of_promises(uploads.told, awake)
    rested = server.wait_until_at_rest(standin.bucket, rest_seconds)
    found += of_progress(awake, rested)
    written = server.reconcile(standin.bucket)["written"]
    if by_itself and written:
        found.append(f"the first reconcile had to write {written} records")
    repaired = server.wait_until_at_rest(standin.bucket, rest_seconds)
    found += of_progress(rested, repaired)
    found += of_records_at_rest(standin, uploads, repaired)
    again = server.reconcile(standin.bucket)
    if again["written"] != 0:
        found.append(f"I10: a second reconcile wrote: {again}")
    return found


def summary(faults: list[Any], most: int = 5) -> list[Any]:
    """The first of them, and how many there are."""
    return faults if len(faults) <= most else [*faults[:most], f"and {len(faults) - most} more"]
