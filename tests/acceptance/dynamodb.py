#!/usr/bin/env python3
"""A DynamoDB in memory, with the table that template.yaml makes, and that table's stream as Lambda follows it.

python3 dynamodb.py COMMAND...     runs the command with the environment that leads there
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from samcli.yamlhelper import yaml_parse

from harness import REPOSITORY, accepts, free_port, running, tool

TABLE = "records"
# What CreateTable takes of what the template says; the rest is set by other calls, and changes nothing here.
PROPERTIES = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "StreamSpecification")

Change = dict[str, Any]


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
        client("dynamodb", environment).create_table(TableName=TABLE, **table_properties())
        yield environment


def client(service: str, environment: dict[str, str]) -> Any:
    """A client of `dynamodb` or, on the same server, of `dynamodbstreams`."""
    return boto3.client(
        service,
        endpoint_url=environment["AWS_ENDPOINT_URL_DYNAMODB"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def resources() -> dict[str, Any]:
    """What template.yaml makes, by name."""
    return yaml_parse((REPOSITORY / "template.yaml").read_text())["Resources"]


def table_properties() -> dict[str, Any]:
    properties = resources()["Records"]["Properties"]
    wanted = {name: properties[name] for name in PROPERTIES if name in properties}
    if "StreamSpecification" in wanted:
        # CloudFormation leaves out what goes without saying there.
        wanted["StreamSpecification"] = {**wanted["StreamSpecification"], "StreamEnabled": True}
    return wanted


class Stream:
    """The table's stream from its beginning."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._client = client("dynamodbstreams", environment)
        self._arn = self._client.list_streams(TableName=TABLE)["Streams"][0]["StreamArn"]
        shards = self._client.describe_stream(StreamArn=self._arn)["StreamDescription"]["Shards"]
        self._iterators = [self._start_of(shard["ShardId"]) for shard in shards]

    def _start_of(self, shard: str) -> str:
        wanted = {"StreamArn": self._arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        return self._client.get_shard_iterator(**wanted)["ShardIterator"]

    def read(self) -> list[Change]:
        """What was changed since the last call, each as Lambda words it."""
        answers = [self._client.get_records(ShardIterator=iterator) for iterator in self._iterators]
        self._iterators = [answer["NextShardIterator"] for answer in answers if answer.get("NextShardIterator")]
        return [self._worded(record) for answer in answers for record in answer["Records"]]

    def _worded(self, record: Change) -> Change:
        """The service model of the SDK has a date where Lambda has seconds; only Lambda says from where it comes."""
        image = dict(record["dynamodb"])
        if "ApproximateCreationDateTime" in image:
            image["ApproximateCreationDateTime"] = image["ApproximateCreationDateTime"].timestamp()
        return {**record, "dynamodb": image, "eventSourceARN": self._arn}


def filters() -> list[dict[str, Any]]:
    """The patterns with which the template's worker follows the stream."""
    stream = resources()["Worker"]["Properties"]["Events"]["LeftOver"]["Properties"]
    return [json.loads(entry["Pattern"]) for entry in stream["FilterCriteria"]["Filters"]]


def handed_on(changes: list[Change]) -> list[Change]:
    """Those for which Lambda would call the worker: they fit one of the patterns."""
    return [change for change in changes if any(fits(pattern, change) for pattern in filters())]


def fits(pattern: Any, value: Any) -> bool:
    """Lambda's rule: every field of the pattern is there, and each at its end holds one of the values listed."""
    if isinstance(pattern, list):
        if any(isinstance(choice, dict) for choice in pattern):
            raise NotImplementedError(f"only equality is imitated here, not {pattern}")
        return value in pattern
    return isinstance(value, dict) and all(name in value and fits(inner, value[name]) for name, inner in pattern.items())


def main() -> int:
    with dynamodb() as environment:
        return subprocess.run(sys.argv[1:], env={**os.environ, **environment}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
