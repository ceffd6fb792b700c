"""The built `oss-callback serve` over a running `oss-standin`: killed, started again, and asked for its records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from harness import TARGET, Program, expect, fetch_json, free_port, wait_for
from standin import Standin

API_TOKEN = "acceptance"
RECONCILE_SECONDS = 120
# Nothing more is done about a record in one of these by itself.
AT_REST = {"ready", "recorded", "failed", "skipped", "deleted"}

Record = dict[str, Any]


def server_binary() -> str:
    """`oss-callback`, as .ci/run builds it."""
    path = TARGET / "quick/oss-callback"
    if not path.exists():
        sys.exit(f"no {path}: cargo build --profile quick -p oss-callback")
    return str(path)


class Server:
    """One server on a port and with a store of its own, both the same after every start."""

    def __init__(self, standin: Standin, directory: Path, buckets: list[str], **environment: str) -> None:
        """`environment` are settings over those that lead to the stand-in and to an embedded store in `directory`."""
        self.port = free_port()
        self.store = directory / "records"
        self.program: Program | None = None
        key = directory / "standin.pem"
        with urllib.request.urlopen(standin.receiver.key_url, timeout=5) as answer:
            key.write_bytes(answer.read())
        self.environment = {
            "OSS_CALLBACK_LISTEN": f"127.0.0.1:{self.port}",
            "OSS_CALLBACK_BUCKETS": ",".join(buckets),
            "OSS_CALLBACK_STORE": f"embedded:{self.store}",
            "OSS_CALLBACK_KEYS": f"{standin.receiver.key_url}={key}",
            "OSS_CALLBACK_API_TOKEN": API_TOKEN,
            "OSS_ENDPOINT": standin.endpoint,
            "OSS_REGION": standin.region,
            "OSS_ACCESS_KEY_ID": standin.access_key_id,
            "OSS_ACCESS_KEY_SECRET": standin.access_key_secret,
            **environment,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def callback_url(self) -> str:
        return f"{self.url}/callback"

    @property
    def pid(self) -> int:
        return self.program.process.pid

    def launch(self, *wrapper: str) -> None:
        """Starts it, under another program if one is given, and does not wait."""
        self.program = Program([*wrapper, server_binary(), "serve"], self.environment)

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self.launch()
        expect("the event of the ready line", json.loads(self.program.first_line()).get("event"), "ready")

    @property
    def has_ended(self) -> bool:
        return self.program.process.poll() is not None

    def stop(self) -> None:
        if self.program:
            self.program.stop()

    def get(self, path: str) -> tuple[int, Any]:
        """GET on a read route, again while it says that this would help: the status and the JSON."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {API_TOKEN}"})

        def ask() -> tuple[int, Any] | None:
            status, answer = fetch_json(request)
            return None if status == 503 else (status, answer)

        return wait_for(f"an answer to GET {path}", ask)

    def record(self, bucket: str, key: str) -> Record | None:
        """The record of an object, if there is one."""
        status, record = self.get(f"/records/{bucket}/{quote(key)}")
        if status == 404:
            return None
        expect(f"the status of GET /records of {key} ({record})", status, 200)
        return record

    def records(self, bucket: str) -> dict[str, Record]:
        """All records of a bucket by their keys."""
        found: dict[str, Record] = {}
        # All that there are, by small pages: the DynamoDB in memory takes half a second to filter 75 records.
        query = {"limit": "50"}
        while True:
            status, page = self.get(f"/records?{urlencode(query)}")
            expect(f"the status of GET /records ({page})", status, 200)
            found |= {record["object"]: record for record in page["records"] if record["bucket"] == bucket}
            if page["cursor"] is None:
                return found
            query["cursor"] = page["cursor"]

    def wait_until_at_rest(self, bucket: str, seconds: float) -> dict[str, Record]:
        """Until nothing is due any more in this bucket, by itself; its records."""
        records: dict[str, Record] = {}

        def rest() -> bool | None:
            records.clear()
            records.update(self.records(bucket))
            return None if restless(records) else True

        try:
            wait_for("all records at rest", rest, seconds, pause=0.25)
        except AssertionError as fault:
            raise AssertionError(f"{fault}; still due: {restless(records)}\n{self.program.last_words()}") from None
        return records

    def reconcile(self, bucket: str) -> dict[str, Any]:
        """`oss-callback reconcile` through this server, which holds the store; what it says at the end."""
        done = subprocess.run(
            [server_binary(), "reconcile", bucket],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=RECONCILE_SECONDS,
            check=False,
        )
        expect(f"the exit code of reconcile\n{done.stdout}{done.stderr}\n", done.returncode, 0)
        finished = json.loads(done.stdout.splitlines()[-1])
        expect("the last line of reconcile", finished["event"], "finished")
        return finished


def restless(records: dict[str, Record]) -> dict[str, Any]:
    """The records about which something is still due, and how they stand."""
    shown = ("state", "reason", "attempts", "deferrals", "next_attempt", "lease", "recheck")
    return {
        key: {name: record.get(name) for name in shown}
        for key, record in records.items()
        if record["state"] not in AT_REST or record.get("recheck")
    }


@contextmanager
def serving(standin: Standin, directory: Path, buckets: list[str], **environment: str) -> Iterator[Server]:
    """A started server, stopped whatever happens."""
    server = Server(standin, directory, buckets, **environment)
    try:
        server.start()
        yield server
    finally:
        server.stop()
