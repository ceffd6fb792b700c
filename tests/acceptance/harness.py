"""What the acceptance scripts share: a counted suite, programs that are always stopped, and waiting on conditions."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import quote

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).absolute()
READY_SECONDS = 30

T = TypeVar("T")

# A killed test must still stop what it started: let the `finally` of every context run.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class Suite:
    """Runs named checks, says what became of each, and ends in one counted line."""

    def __init__(self, title: str) -> None:
        self.passed = 0
        self.failed = 0
        print(f"{title}", flush=True)

    def run(self, name: str, check: Callable[..., Any], *arguments: Any) -> None:
        begun = time.monotonic()
        try:
            check(*arguments)
        except AssertionError as fault:
            self.failed += 1
            print(f"  FAIL  {name}\n        {fault}", flush=True)
        except Exception:
            self.failed += 1
            print(f"  FAIL  {name}\n{traceback.format_exc()}", flush=True)
        else:
            self.passed += 1
            print(f"  ok    {name} ({time.monotonic() - begun:.2f} s)", flush=True)

    def finish(self) -> int:
        """Prints the count; the exit code."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed or not self.passed else 0


def expect(what: str, seen: Any, wanted: Any) -> None:
    """Fails naming what was expected and what was seen."""
    if seen != wanted:
        raise AssertionError(f"{what}: expected {wanted!r}, saw {seen!r}")


def expect_that(condition: bool, what: str, seen: Any) -> None:
    """Fails where the expectation is more than a value."""
    if not condition:
        raise AssertionError(f"expected {what}, saw {seen!r}")


def wait_for(what: str, probe: Callable[[], T | None], seconds: float = READY_SECONDS, pause: float = 0.05) -> T:
    """Polls until `probe` returns something; fails naming what it waited for."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(pause)


def free_port() -> int:
    """A port of the loopback interface that nobody holds now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def accepts(port: int) -> bool | None:
    """True once something listens there; None until then."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return None
    return True


class Program:
    """A child in a process group of its own. Its output is read line by line and never blocks it."""

    def __init__(
        self,
        command: list[str],
        env: dict[str, str] | None = None,
        cwd: Path = REPOSITORY,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.command = command
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.stdout: queue.Queue[str] = queue.Queue()
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._drain, args=(self.process.stdout, self.stdout.put), daemon=True),
            threading.Thread(target=self._drain, args=(self.process.stderr, self.errors.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _drain(stream: Any, keep: Callable[[str], None]) -> None:
        for line in stream:
            keep(line.rstrip("\n"))

    def wait_until(self, what: str, probe: Callable[[], T | None], seconds: float = READY_SECONDS) -> T:
        """Like `wait_for`, but gives up, with its last words, as soon as the program has ended."""

        def probe_living() -> T | None:
            found = probe()
            if found is None and self.process.poll() is not None:
                self._join_readers()
                raise AssertionError(
                    f"{what}: {self.command[0]} ended with {self.process.returncode}\n{self.last_words()}"
                )
            return found

        return wait_for(what, probe_living, seconds)

    def first_line(self, seconds: float = READY_SECONDS) -> str:
        """The first line on standard output that was not taken yet."""

        def take() -> str | None:
            try:
                return self.stdout.get(timeout=0.05)
            except queue.Empty:
                return None

        return self.wait_until(f"a line on the standard output of {self.command[0]}", take, seconds)

    def last_words(self) -> str:
        return "\n".join(f"        | {line}" for line in self.errors[-20:])

    def kill(self) -> None:
        """kill -9, without any chance to tidy up."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._join_readers()

    def stop(self, seconds: float = 10) -> None:
        """Asks it to end, and kills it if it does not."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        self.kill()

    def _join_readers(self) -> None:
        for reader in self._readers:
            reader.join(5)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@contextmanager
def running(command: list[str], env: dict[str, str] | None = None, cwd: Path = REPOSITORY) -> Iterator[Program]:
    program = Program(command, env, cwd)
    try:
        yield program
    finally:
        program.stop()


def tool(name: str) -> str:
    """A program of this interpreter's environment."""
    return str(Path(sys.executable).parent / name)


def dev_binary() -> str:
    """`oss-callback-dev`, as the first argument or as .ci/run builds it."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else TARGET / "quick/oss-callback-dev").absolute()
    if not path.exists():
        sys.exit(f"no {path}: cargo build --profile quick -p oss-callback-dev, or give its path as the argument")
    return str(path)


class Loop:
    """The whole loop, `oss-callback-dev`, over one data directory; it can be killed and started again."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._program: Program | None = None

    def start(self) -> None:
        self._program = Program(
            [dev_binary(), "--standin", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--data", str(self.data)]
        )
        try:
            self.ready = json.loads(self._program.first_line())
            expect("the event of the ready line", self.ready.get("event"), "ready")
        except BaseException:
            self.stop()
            raise

    @property
    def errors(self) -> list[str]:
        """What it wrote to standard error."""
        return self._program.errors

    def kill(self) -> None:
        self._program.kill()

    def stop(self) -> None:
        if self._program:
            self._program.stop()

    def get(self, path: str, token: str | None = None) -> tuple[int, Any]:
        """GET on the function: the status and the JSON."""
        request = urllib.request.Request(self.ready["listen"] + path)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        return fetch_json(request)

    def record(self, key: str) -> dict[str, Any]:
        """The record of an object of the ready line's bucket."""
        status, record = self.get(f"/records/{self.ready['bucket']}/{quote(key)}", self.ready["api_token"])
        expect(f"the status of GET /records of {key} ({record})", status, 200)
        return record


@contextmanager
def loop(suite: Suite) -> Iterator[Loop]:
    """A running loop over fresh data, stopped at the end whatever happens. That it starts is a check of the suite."""
    with TemporaryDirectory() as data:
        running = Loop(Path(data))
        suite.run("oss-callback-dev gets ready", running.start)
        if suite.failed:
            sys.exit(suite.finish())
        try:
            yield running
        finally:
            running.stop()


def fetch_json(request: urllib.request.Request, seconds: float = 15) -> tuple[int, Any]:
    """The status and the JSON of an answer, whether it is a success or not."""
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        status, text = refusal.code, refusal.read()
    except OSError as fault:
        raise AssertionError(f"{request.full_url}: expected an answer, saw {fault!r}") from None
    try:
        return status, json.loads(text)
    except ValueError:
        raise AssertionError(f"{request.full_url}: expected JSON, saw status {status} and {text!r}") from None
