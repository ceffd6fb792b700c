#!/usr/bin/env python3
"""The built server dies by SIGKILL at each of its durable writes, while uploads run; nothing is lost, nothing doubled.

    python3 kill.py [--positions=N] [path of oss-standin]      by default at every position; needs strace

strace kills at the n-th call of a kind, but counts for each thread by itself. A server opens and closes its store in
one thread and writes to it in another, so each phase of its life is traced alone, and each trace is read to see that
the call at which it died was the n-th of the whole process. A server that did not die there is a failed test.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import Program, Suite, expect, expect_that, running, wait_for
from invariants import judge, of_promises, summary
from server import Server
from standin import Standin, standin
from uploads import Uploads

# All by which a file or a name in a folder can change for good, but for `write`, which does not go to the store.
DURABLE = (
    *("pwrite64", "pwritev", "pwritev2", "ftruncate", "fallocate", "msync", "fsync", "fdatasync", "sync_file_range"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat"),
)
UPLOADS = 16
# Servers that are being killed at a time, and those that live on, mostly waiting for a lease of 60 s to run out.
KILLED_AT_A_TIME, JUDGED_AT_A_TIME = 2, 80
DEATH_SECONDS, REST_SECONDS = 60, 120
names = count(1)


@dataclass(frozen=True)
class Position:
    """The n-th call of a kind."""

    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call} {self.number}"


class Trace:
    """What strace wrote down: one line for each call, the process id first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def calls(self) -> list[str]:
        """The durable calls of all threads in their order, the one that was broken off with them.

        A call has an end, even if it is `= ?`. What has none is no call: when a thread dies, strace sometimes says of
        another one that it had begun the same.
        """
        end = r"^\d+ +(?:(\w+)\(.*\)|<\.\.\. (\w+) resumed>.*\)) += "
        ends = re.findall(end, self.path.read_text(), re.MULTILINE)
        return [whole or resumed for whole, resumed in ends]

    def counts(self) -> Counter[str]:
        return Counter(self.calls())

    @property
    def was_killed(self) -> bool:
        return "+++ killed by SIGKILL" in self.path.read_text()

    def arguments(self, position: Position | None) -> list[str]:
        """How strace is told to write here, and where it has to kill."""
        traced = ["strace", "-f", "-o", str(self.path), "-e", "trace=" + ",".join(f"?{call}" for call in DURABLE)]
        if position:
            traced += ["-e", f"inject={position.call}:signal=SIGKILL:when={position.number}"]
        return traced


class Life:
    """One server over a bucket and a store of its own, and what its uploaders were told."""

    def __init__(self, standin: Standin, scratch: Path) -> None:
        name = f"life-{next(names)}"
        self.directory = scratch / name
        self.directory.mkdir()
        self.standin = standin.of_bucket(name)
        self.server = Server(self.standin, self.directory, [name])
        self.uploads = Uploads(self.standin, self.server.callback_url)
        self.trace = Trace(self.directory / "trace")

    @contextmanager
    def traced(self, position: Position | None) -> Iterator[None]:
        """strace is let loose on the running server."""
        command = [*self.trace.arguments(position), "-p", str(self.server.pid)]
        with running(command) as strace:
            strace.wait_until("strace to attach", lambda: attached(strace))
            yield
            if position:
                # It has to write down the end.
                strace.process.wait(DEATH_SECONDS)

    def wait_for_death(self) -> None:
        wait_for("the death of the server", lambda: True if self.server.has_ended else None, DEATH_SECONDS)

    def died_at(self, position: Position) -> list[str]:
        """Where else it died, or whether it died at all."""
        code = self.server.program.process.returncode
        if code != -signal.SIGKILL or not self.trace.was_killed:
            return [f"it did not die by SIGKILL: exit code {code}, {self.server.program.errors[-1:]}"]
        calls = self.trace.calls()
        if (calls[-1], calls.count(position.call)) != (position.call, position.number):
            return [f"it died at {calls[-1]} {calls.count(calls[-1])}, of {dict(self.trace.counts())}"]
        return []

    def live_on(self) -> list[str]:
        """Starts the server again; what is broken."""
        try:
            self.server.start()
            found = of_promises(self.uploads.told, self.server.records(self.standin.bucket))
            # Beside what was there, so that nothing that was lost is hidden or repaired by what is new.
            self.uploads.folder = "later/"
            self.uploads.put_many(UPLOADS)
            return found + judge(self.server, self.standin, self.uploads, REST_SECONDS)
        finally:
            self.end()

    def end(self) -> None:
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def attached(strace: Program) -> bool | None:
    return True if any("attached" in line for line in strace.errors) else None


# Each phase: a life up to where it is traced, as far as that needs a life at all, and what goes on while it is.


def opening(life: Life, position: Position | None) -> None:
    """A store is made where there is none."""
    life.server.launch(*life.trace.arguments(position))
    open_or_die(life, position)


def reopening(life: Life, position: Position | None) -> None:
    """A store whose server was killed is opened again."""
    life.server.start()
    life.uploads.put_one_by_one(UPLOADS)
    life.server.program.kill()
    life.server.launch(*life.trace.arguments(position))
    open_or_die(life, position)


def open_or_die(life: Life, position: Position | None) -> None:
    if position:
        life.wait_for_death()
    else:
        life.server.program.first_line()
        life.server.program.kill()


def working(life: Life, position: Position | None) -> None:
    """Uploads run, and the pool does what they leave over."""
    life.server.start()
    with life.traced(position):
        if position:
            life.uploads.put_until(lambda: life.server.has_ended, DEATH_SECONDS)
            life.wait_for_death()
        else:
            life.uploads.put_many(UPLOADS)


def closing(life: Life, position: Position | None) -> None:
    """It is asked to stop."""
    life.server.start()
    life.uploads.put_one_by_one(UPLOADS)
    with life.traced(position):
        life.server.program.process.terminate()
        life.wait_for_death()


Phase = Callable[[Life, Position | None], None]
PHASES: dict[str, Phase] = {
    "opening a new store": opening,
    "at work": working,
    "closing": closing,
    "opening after a kill": reopening,
}


def positions_of(phase: Phase, standin: Standin, scratch: Path) -> list[Position]:
    """Lives through the phase once, unharmed, and counts."""
    life = Life(standin, scratch)
    try:
        phase(life, None)
        counts = life.trace.counts()
    finally:
        life.end()
    expect_that(counts.total() > 0, "durable calls", counts)
    return [Position(call, number) for call in counts for number in range(1, counts[call] + 1)]


def spread(positions: list[Position], most: int) -> list[Position]:
    """So many of them, from the first to the last."""
    if len(positions) <= most:
        return positions
    return [positions[index * (len(positions) - 1) // (most - 1)] for index in range(most)]


class Killer:
    """Kills a few servers at a time, and has each that was killed live on beside the next."""

    def __init__(self, standin: Standin, scratch: Path) -> None:
        self.standin, self.scratch = standin, scratch
        self._killing = ThreadPoolExecutor(KILLED_AT_A_TIME)
        self._judging = ThreadPoolExecutor(JUDGED_AT_A_TIME)

    def outcome(self, phase: Phase, position: Position) -> Callable[[], list[str]]:
        """Begins with it; the result waits, and is what is broken."""
        killed = self._killing.submit(self._kill, phase, position)
        return lambda: [f"{position}: {fault}" for fault in killed.result().result()]

    def _kill(self, phase: Phase, position: Position) -> Future[list[str]]:
        life = Life(self.standin, self.scratch)
        try:
            phase(life, position)
            faults = life.died_at(position)
        except BaseException:
            life.end()
            raise
        return self._judging.submit(lambda: faults + life.live_on())

    def __enter__(self) -> Killer:
        return self

    def __exit__(self, *_: Any) -> None:
        self._killing.shutdown(cancel_futures=True)
        self._judging.shutdown(cancel_futures=True)


def faults_of(outcomes: list[Callable[[], list[str]]]) -> list[str]:
    found = []
    for outcome in outcomes:
        try:
            found += outcome()
        except AssertionError as fault:
            found.append(str(fault))
    return found


def check_phase(outcomes: list[Callable[[], list[str]]]) -> None:
    faults = faults_of(outcomes)
    expect("what is broken", "\n        ".join(summary(faults)), "")


def share(part: int, total: int, most: int | None) -> int:
    """How many positions of a phase: at least the first, one in the middle and the last."""
    return part if most is None else max(3, most * part // total)


def main() -> int:
    suite = Suite("SIGKILL at every durable write")
    given = next((argument for argument in sys.argv if argument.startswith("--positions=")), None)
    most = int(given.partition("=")[2]) if given else None
    with (
        standin(suite, "--fault", "callback-doubled,probability=0.3") as oss,
        TemporaryDirectory() as scratch,
        Killer(oss, Path(scratch)) as killer,
    ):
        positions: dict[str, list[Position]] = {}
        for name, phase in PHASES.items():
            suite.run(
                f"{name}: the durable calls are counted",
                lambda: positions.update({name: positions_of(phase, oss, Path(scratch))}),
            )
        total = sum(map(len, positions.values()))
        chosen = {name: spread(found, share(len(found), total, most)) for name, found in positions.items()}
        outcomes = {
            name: [killer.outcome(PHASES[name], position) for position in found] for name, found in chosen.items()
        }
        for name, found in positions.items():
            counted = f"{len(chosen[name])} of {len(found)} positions"
            suite.run(f"{name}: killed at {counted}, nothing is lost or doubled", check_phase, outcomes[name])
        print(f"        killed at {sum(map(len, chosen.values()))} of {total} positions")
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
