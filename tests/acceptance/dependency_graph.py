#!/usr/bin/env python3
"""What is compiled into which program, as `cargo tree` sees it.

python3 dependency_graph.py
"""

from __future__ import annotations

import subprocess
import sys

from harness import REPOSITORY, Suite, expect

DEPLOYED = ["-p", "oss-callback", "-e", "normal,build", "--no-default-features", "--features", "lambda,dynamodb"]
DEV = ["-p", "oss-callback-dev", "-e", "normal"]


def crates(arguments: list[str]) -> set[str]:
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--prefix", "none", "--format", "{p}", *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    if tree.returncode:
        raise AssertionError(f"cargo tree {' '.join(arguments)} failed:\n{tree.stderr}")
    return {line.split()[0] for line in tree.stdout.splitlines() if line.strip()}


def check(arguments: list[str], present: set[str], absent: tuple[str, ...]) -> None:
    """`absent` are the beginnings of names."""
    graph = crates(arguments)
    expect("crates that belong there and are missing", sorted(present - graph), [])
    expect("crates that do not belong there", sorted(name for name in graph if name.startswith(absent)), [])


def main() -> int:
    suite = Suite("The dependency graphs")
    suite.run(
        "the deployed function has no stand-in and no embedded store",
        check,
        DEPLOYED,
        {"lambda_runtime", "aws-sdk-dynamodb"},
        ("oss-standin", "redb"),
    )
    suite.run(
        "cargo dev has no AWS crate",
        check,
        DEV,
        {"oss-callback", "oss-standin", "redb"},
        ("aws-", "aws_", "lambda"),
    )
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
