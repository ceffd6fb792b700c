#!/usr/bin/env python3
"""A DynamoDB in memory, with the table that template.yaml makes.

python3 dynamodb.py COMMAND...     runs the command with the environment that leads there
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import boto3

from harness import accepts, free_port, running, tool

TABLE = "records"


@contextmanager
def dynamodb() -> Iterator[dict[str, str]]:
    """A table as template.yaml makes it; the environment that leads there."""
    port = free_port()
    environment = {
        "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{port}",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
    }
    with running([tool("moto_server"), "-H", "127.0.0.1", "-p", str(port)]) as server:
        server.wait_until("moto_server to listen", lambda: accepts(port))
        client = boto3.client(
            "dynamodb",
            endpoint_url=environment["AWS_ENDPOINT_URL_DYNAMODB"],
            region_name=environment["AWS_REGION"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "due_shard", "AttributeType": "S"},
                {"AttributeName": "due_at", "AttributeType": "N"},
            ],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "due",
                    "KeySchema": [
                        {"AttributeName": "due_shard", "KeyType": "HASH"},
                        {"AttributeName": "due_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
        )
        yield environment


def main() -> int:
    with dynamodb() as environment:
        return subprocess.run(sys.argv[1:], env={**os.environ, **environment}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
