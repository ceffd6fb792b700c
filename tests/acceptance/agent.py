"""A client in another language: a program that answers lines of JSON, so that standin_checks.py serves it unchanged."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import Program
from judge import Habits, Refused

SECONDS = 60


class Agent:
    """The running program, stopped at the end of a `with`.

    It is sent one object a line, `do` and the arguments, and answers what the operation returns or `error`. Bytes are
    Base64 on the way; those it returns are named `data`.
    """

    habits = Habits()

    def __init__(self, name: str, command: list[str], does: Iterable[str], settings: dict[str, Any]) -> None:
        self.name, self.does = name, frozenset(does)
        self._program = Program([*command, json.dumps(settings)], stdin=subprocess.PIPE)

    def do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        stdin = self._program.process.stdin
        stdin.write(json.dumps({"do": operation, **as_json(arguments)}) + "\n")
        stdin.flush()
        answer = json.loads(self._program.first_line(SECONDS))
        if "fault" in answer:
            raise AssertionError(f"{operation} by {self.name}: {answer['fault']}")
        if "error" in answer:
            fault = answer["error"]
            raise Refused(fault.get("status"), fault.get("code"), fault.get("message", ""))
        if "data" in answer:
            answer["data"] = base64.b64decode(answer["data"])
        return answer

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: Any) -> None:
        # The end of its input is how it is told to stop, and to stop what it started.
        self._program.process.stdin.close()
        try:
            self._program.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        self._program.stop()


def as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value
