#!/usr/bin/env python3
"""Runs the examples that `cargo dev` prints on standard error, as they are printed.

    python3 printed_examples.py [path of oss-callback-dev]

An example begins with a line `# curl`, `# Python` or `# Node` and ends at an empty line. Each is pasted into a shell as
it is; this interpreter is its python3, and node_modules beside this file serve Node.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import HERE, Suite, expect, expect_that, loop, wait_for

TOOLS = {"curl", "Python", "Node"}
EXAMPLE_SECONDS = 60


def examples(lines: list[str]) -> dict[str, str] | None:
    """The examples by tool, once all of them, each with the line that ends it, are there."""
    blocks = re.findall(r"^# (\w+)[^\n]*\n(.*?)\n\n", "\n".join(lines), re.MULTILINE | re.DOTALL)
    found = {tool: block for tool, block in blocks if tool in TOOLS}
    return found if found.keys() == TOOLS else None


def json_objects(text: str) -> list[dict[str, Any]]:
    """Every JSON object in a program's output."""
    decoder, found, start = json.JSONDecoder(), [], text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
            found.append(value)
        except ValueError:
            end = start + 1
        start = text.find("{", end)
    return found


def check_example(name: str, script: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail"],
        input=script,
        capture_output=True,
        text=True,
        cwd=HERE,
        env={**os.environ, "PATH": path},
        timeout=EXAMPLE_SECONDS,
        check=False,
    )
    output = f"{done.stdout}\n{done.stderr}\nof this example:\n{script}"
    expect(f"the exit code, with the output\n{output}", done.returncode, 0)
    answers = [value for value in json_objects(done.stdout) if value.get("status")]
    expect_that(bool(answers), "one JSON object with a status", output)


def collect(errors: list[str]) -> dict[str, str]:
    """Waits for the examples; they follow the ready line."""
    try:
        return wait_for(
            "an example each for curl, Python and Node, ended by an empty line", lambda: examples(errors), 5
        )
    except AssertionError as fault:
        raise AssertionError("\n".join([f"{fault}; standard error had:", *errors])) from None


def main() -> int:
    suite = Suite("The printed examples")
    found: dict[str, str] = {}
    with loop(suite) as running:
        suite.run("all three are printed", lambda: found.update(collect(running.errors)))
        for name, script in found.items():
            suite.run(f"the {name} example", check_example, name, script)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
