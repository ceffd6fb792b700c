#!/usr/bin/env python3
"""Many callbacks a second for as long as one likes, one in a hundred with a fault: the server neither grows nor errs.

    python3 soak.py [--seconds=N] [path of oss-standin]       by default for a minute

They come from real uploads by way of the stand-in, whose faults strike keys by their prefixes, so that what must be
told of each upload is known. The same objects are overwritten again and again, so that nothing has a reason to grow.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import Suite, expect, expect_that
from invariants import judge, summary
from large_upload import Client
from pictures import tiny
from receiver import FORM
from server import Server, serving
from standin import Standin, base64_json, callback_to, standin
from uploads import Told, Uploads

RATE = 200
UPLOADERS = 24
KEYS, PICTURES = 1_000, 100
# One upload in so many is a picture, and one in so many meets a fault.
A_PICTURE_IN, A_FAULT_IN = 20, 100
MIB = 1024 * 1024
GROWTH, MEMORY_LIMIT = 1.3, 256 * MIB
# Connections that happen to be open.
SPARE_DESCRIPTORS = 64
REST_SECONDS = 120
# By prefix: the fault, and what clients must be told: the function's answer, or why OSS got none.
ANSWERED = None
FAULTS = {
    "head-hang/": ("hang,operation=HeadObject", ANSWERED),
    "head-503/": ("status=503,operation=HeadObject", ANSWERED),
    "head-reset/": ("reset,operation=HeadObject", ANSWERED),
    "head-late/": ("slow=500ms,operation=HeadObject", ANSWERED),
    "get-503/": ("status=503,operation=GetObject", ANSWERED),
    "get-truncated/": ("truncate,operation=GetObject", ANSWERED),
    "doubled/": ("callback-doubled", ANSWERED),
    "late/": ("callback-late=1s", ANSWERED),
    "lost/": ("callback-lost", "connect"),
    "forged/": ("callback-wrong-signature", r"Error status : 403\."),
}
OF_PICTURES = ("get-503/", "get-truncated/")


@dataclass
class Load:
    """Uploads at a steady rate, and what was told of them."""

    standin: Standin
    callback_url: str
    seconds: float
    told: list[Told] = field(default_factory=list)

    def run(self) -> None:
        """The same uploads however fast they are; late ones are made up for."""
        self._begun, self._numbers = time.monotonic(), count()
        with ThreadPoolExecutor(UPLOADERS) as threads:
            for thread in [threads.submit(self._go_on) for _ in range(UPLOADERS)]:
                thread.result()
        self.took = time.monotonic() - self._begun

    def _go_on(self) -> None:
        client = Client(self.standin)
        callback = base64_json(callback_to(self.callback_url, FORM, {}))
        while (number := next(self._numbers)) < RATE * self.seconds:
            time.sleep(max(0.0, self._begun + number / RATE - time.monotonic()))
            key, mime, data = upload_of(number)
            headers = {"x-oss-callback": callback, "Content-Type": mime}
            begun = time.monotonic()
            status, _, answer = client.ask("PUT", key, "", data, headers)
            self.told.append(Told(key, status, answer.decode(), time.monotonic() - begun))


def upload_of(number: int) -> tuple[str, str, bytes]:
    """Key, type and content of the n-th upload."""
    prefix = ""
    if number % A_FAULT_IN == 0:
        prefixes = list(FAULTS)
        prefix = prefixes[number // A_FAULT_IN % len(prefixes)]
    if prefix in OF_PICTURES or number % A_PICTURE_IN == 1:
        mime, data = tiny()[number // A_PICTURE_IN % len(tiny())]
        return f"{prefix}picture-{number // A_PICTURE_IN % PICTURES}", mime, data
    return f"{prefix}text-{number % KEYS}", "text/plain", f"text {number}\n".encode()


@dataclass
class Watch:
    """What the server holds, looked at every second until told to stop."""

    pid: int
    memory: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(1):
            status = Path(f"/proc/{self.pid}/status").read_text()
            self.memory.append(int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024)
            self.descriptors.append(sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir()))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def thirds(samples: list[int]) -> tuple[int, int]:
    """The most in the second third, after everything is warm, and in the last."""
    third = len(samples) // 3
    return max(samples[third : 2 * third]), max(samples[2 * third :])


def check_load(load: Load, server: Server) -> None:
    load.run()
    expect_that(not server.has_ended, "the server to live", server.program.last_words())
    print(f"        {len(load.told)} uploads in {load.took:.1f} s, {len(load.told) / load.took:.0f} a second")


def check_answers(load: Load) -> None:
    """No error but those that were asked for."""
    wrong = []
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    for told in load.told:
        prefix = told.key[: told.key.find("/") + 1]
        failure = FAULTS[prefix][1] if prefix else ANSWERED
        if failure is ANSWERED and told.status == 200:
            statuses[prefix][told.answer["status"]] += 1
        elif failure is ANSWERED or told.status != 203 or not re.search(failure, told.text):
            wrong.append(told)
    expect("what is wrong", summary(wrong), [])
    expect("how those were answered that no fault struck", set(statuses[""]), {"recorded", "ready"})
    slowest = max(told.seconds for told in load.told)
    print(f"        the slowest after {slowest:.2f} s; " + json.dumps(statuses))


def check_memory(watch: Watch) -> None:
    before, after = thirds(watch.memory)
    print(f"        at most {before / MIB:.1f} MiB in the second third of the time, {after / MIB:.1f} MiB in the last")
    expect_that(after <= GROWTH * before, f"growth by {GROWTH} at most", after / before)
    expect_that(after < MEMORY_LIMIT, f"less than {MEMORY_LIMIT / MIB} MiB", after / MIB)


def check_descriptors(watch: Watch) -> None:
    before, after = thirds(watch.descriptors)
    print(f"        at most {before} descriptors in the second third of the time, {after} in the last")
    expect_that(after <= GROWTH * before + SPARE_DESCRIPTORS, "no more descriptors than before", (before, after))


def check_records(server: Server, standin: Standin, load: Load) -> None:
    uploads = Uploads(standin, server.callback_url)
    uploads.told = load.told
    expect("what is broken", summary(judge(server, standin, uploads, REST_SECONDS)), [])


def main() -> int:
    given = next((argument for argument in sys.argv if argument.startswith("--seconds=")), "=60")
    seconds = float(given.partition("=")[2])
    suite = Suite(f"{RATE} callbacks a second for {seconds:g} s")
    faults = [f"--fault={fault},prefix={prefix}" for prefix, (fault, _) in FAULTS.items()]
    with standin(suite, *faults) as oss, TemporaryDirectory() as scratch:
        with serving(oss, Path(scratch), [oss.bucket]) as server:
            load, watch = Load(oss, server.callback_url, seconds), Watch(server.pid)
            suite.run("the load is carried", check_load, load, server)
            watch.stop()
            oss.arm()
            suite.run("every answer is JSON, and none an error that nobody asked for", check_answers, load)
            suite.run("memory is flat", check_memory, watch)
            suite.run("descriptors are flat", check_descriptors, watch)
            suite.run("all records are right in the end", check_records, server, oss, load)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
