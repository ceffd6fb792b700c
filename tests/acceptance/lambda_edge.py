#!/usr/bin/env python3
"""Packages the function as it is deployed and runs it behind two stand-ins for AWS Lambda, over a DynamoDB in memory.

    python3 lambda_edge.py          in an environment with requirements.txt

OSS is not configured, so callbacks are recorded unconfirmed; the keys are the real ones, the callbacks genuine.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import samcli
from samcli.yamlhelper import yaml_parse

from dynamodb import TABLE, dynamodb
from harness import (
    REPOSITORY,
    TARGET,
    Program,
    Suite,
    accepts,
    expect,
    expect_that,
    fetch_json,
    free_port,
    running,
    tool,
)

sys.path.insert(0, str(REPOSITORY / "events"))
from make import GENUINE, LAMBDA, Request  # noqa: E402

FUNCTION = "oss-callback"
ARCHIVE = TARGET / f"lambda/{FUNCTION}/bootstrap.zip"
ARCHIVE_LIMIT = 8_000_000
COMPILE_SECONDS = 1_200
API_TOKEN = "acceptance"
# The only bucket, so that callbacks that name none are about it.
BUCKET = "yonghu-test"
RECORDED = (200, "recorded")

# What comes of each Lambda event, by the end of its name: the status, and that of the answer or the refusal's code.
OUTCOMES = {
    "query-in-path": (400, "missing_field"),  # names no object
    "json-body": (400, "missing_field"),
    "json-type-form-layout": (400, "bad_body"),
    "json-type-not-json": (400, "bad_body"),
    "trailing-slash": RECORDED,
    "query-token": RECORDED,
    "full-header-set": RECORDED,
    "named-stage": RECORDED,
    "custom-domain": RECORDED,
    "percent-encoded-path": RECORDED,
}
FULL = "full-header-set"
FULL_OBJECT = "headSculpture/jikang2.jpg"


def emulator() -> str:
    """The Lambda Runtime Interface Emulator; aws-sam-cli brings it along."""
    machine = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return str(Path(samcli.__file__).parent / f"local/rapid/aws-lambda-rie-{machine}")


def build() -> None:
    """With the features that Cargo.toml names for deployment."""
    command = [
        tool("cargo-lambda"),
        "lambda",
        "build",
        "--release",
        "--locked",
        "--bin",
        FUNCTION,
        "--output-format",
        "zip",
    ]
    done = subprocess.run(command, cwd=REPOSITORY, env=with_tools(), capture_output=True, text=True, check=False)
    expect(f"the exit code of {' '.join(command)}\n{done.stdout}{done.stderr}\n", done.returncode, 0)


def with_tools() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def check_archive() -> None:
    size = ARCHIVE.stat().st_size
    print(f"        {ARCHIVE.name}: {size:,} bytes of {ARCHIVE_LIMIT:,}")
    expect_that(size < ARCHIVE_LIMIT, f"less than {ARCHIVE_LIMIT} bytes", size)
    expect("the files in it", zipfile.ZipFile(ARCHIVE).namelist(), ["bootstrap"])


def unpack(directory: Path) -> Path:
    bootstrap = Path(zipfile.ZipFile(ARCHIVE).extract("bootstrap", directory))
    bootstrap.chmod(0o755)
    return bootstrap


def settings() -> dict[str, str]:
    paths = {Request.read(file).path for file in GENUINE.glob("*.http")}
    # As OSS calls it, to the letter: another spelling of a path is another route.
    paths.add(event("function-url-percent-encoded-path")["rawPath"])
    return {
        "_HANDLER": "callback",
        "OSS_CALLBACK_PATH": ",".join(sorted(paths)),
        "OSS_CALLBACK_BUCKETS": BUCKET,
        "OSS_CALLBACK_STORE": f"dynamodb:{TABLE}",
        "OSS_CALLBACK_API_TOKEN": API_TOKEN,
    }


def outcome(status: int, answer: dict[str, Any]) -> tuple[int, str]:
    """The status, and that of the answer or the code of the refusal."""
    return status, answer["error"]["code"] if "error" in answer else answer.get("status", answer.get("state"))


class Emulator:
    """The Runtime Interface Emulator around the deployed binary. It takes one event at a time."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(self.url, data=json.dumps(event).encode(), method="POST")
        try:
            return fetch_json(request, seconds=30)[1]
        except AssertionError as fault:
            raise AssertionError(f"{fault}\n{self.program.last_words()}") from None

    def outcome(self, event: dict[str, Any]) -> tuple[int, str]:
        result = self.invoke(event)
        expect_that("statusCode" in result, "an answer for the gateway", result)
        body = result["body"]
        return outcome(
            result["statusCode"], json.loads(base64.b64decode(body) if result.get("isBase64Encoded") else body)
        )


@contextmanager
def emulated(bootstrap: Path, environment: dict[str, str], handler: str = "callback") -> Iterator[Emulator]:
    """The function of that handler."""
    port, runtime_port = free_port(), free_port()
    command = [
        emulator(),
        *["--runtime-interface-emulator-address", f"127.0.0.1:{port}"],
        *["--runtime-api-address", f"127.0.0.1:{runtime_port}"],
        str(bootstrap),
    ]
    environment = {**environment, "AWS_LAMBDA_FUNCTION_NAME": FUNCTION, "AWS_LAMBDA_FUNCTION_TIMEOUT": "60"}
    environment["_HANDLER"] = handler
    with running(command, environment) as rie:
        rie.wait_until("the Runtime Interface Emulator to listen", lambda: accepts(port))
        yield Emulator(rie, port)


def event(name: str) -> dict[str, Any]:
    return json.loads((LAMBDA / f"{name}.json").read_text())


def check_event(emulator: Emulator, name: str) -> None:
    wanted = [outcome for end, outcome in OUTCOMES.items() if name.endswith(end)]
    expect_that(len(wanted) == 1, f"one line of OUTCOMES for {name}", wanted)
    expect("the outcome", emulator.outcome(event(name)), wanted[0])


def check_flipped_bit(emulator: Emulator) -> None:
    altered = event(f"http-api-{FULL}")
    body = bytearray(base64.b64decode(altered["body"]))
    body[-1] ^= 1
    altered["body"] = base64.b64encode(body).decode()
    expect("the outcome", emulator.outcome(altered), (403, "signature_mismatch"))


def check_refused(emulator: Emulator) -> None:
    """As a refusal to the gateway or as an error of the function, but it must say what it wants."""
    result = emulator.invoke(event("rest-api-payload-1.0"))
    expect_that(result.get("statusCode", 500) >= 400, "a refusal", result)
    text = json.dumps(result).lower()
    expect_that("payload" in text and "2.0" in text, "a message that names payload 2.0", result)


def read_event(path: str) -> dict[str, Any]:
    """GET of this path through an HTTP API."""
    read = event(f"http-api-{FULL}")
    read |= {"rawPath": path, "routeKey": "GET /records/{proxy+}", "headers": {"authorization": f"Bearer {API_TOKEN}"}}
    read["requestContext"]["http"] |= {"method": "GET", "path": path}
    read["requestContext"]["routeKey"] = read["routeKey"]
    del read["body"]
    return read | {"isBase64Encoded": False}


def check_record(emulator: Emulator) -> None:
    expect("the outcome", emulator.outcome(read_event(f"/records/{BUCKET}/{FULL_OBJECT}")), RECORDED)


def put_record(store: dict[str, str], key: str, attempts: int) -> None:
    """A record whose work somebody began and never ended: its lease has run out."""
    long_ago = "2026-01-01T00:00:00Z"
    record = {
        "bucket": BUCKET,
        "object": key,
        "etag": "D41D8CD98F00B204E9800998ECF8427E",
        "size": 5,
        "mime": "image/png",
        "generation": 1,
        "revision": 1,
        "state": "processing",
        "confirmed": True,
        "thumbnails": [],
        "custom": {},
        "attempts": attempts,
        "lease": {"owner": "somebody", "until": long_ago},
        "first_seen": long_ago,
        "updated": long_ago,
        "schema": 1,
        "pk": f"{BUCKET}/{key}",
        "due_shard": "0",
        "due_at": 0,
    }
    table(store).put_item(Item=record)


def state_of(store: dict[str, str], key: str) -> tuple[str, str, int]:
    record = table(store).get_item(Key={"pk": f"{BUCKET}/{key}"}, ConsistentRead=True)["Item"]
    return record["state"], record["reason"], int(record["attempts"])


def table(store: dict[str, str]) -> Any:
    resource = boto3.resource(
        "dynamodb",
        endpoint_url=store["AWS_ENDPOINT_URL_DYNAMODB"],
        region_name=store["AWS_REGION"],
        aws_access_key_id=store["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=store["AWS_SECRET_ACCESS_KEY"],
    )
    return resource.Table(TABLE)


def batch(*keys: str) -> dict[str, Any]:
    """As the table's stream brings it, changes numbered from 1."""
    changes = [
        {"dynamodb": {"Keys": {"pk": {"S": f"{BUCKET}/{key}"}}, "SequenceNumber": str(number)}}
        for number, key in enumerate(keys, 1)
    ]
    return {"Records": changes}


def check_batch(emulator: Emulator, store: dict[str, str]) -> None:
    """Nobody answers in OSS's place, which is no fault of the record; one that was begun too often is."""
    put_record(store, "good.png", 1)
    put_record(store, "poison.png", 5)
    answer = emulator.invoke(batch("good.png", "poison.png", "absent.png"))
    expect("the failures", answer, {"batchItemFailures": [{"itemIdentifier": "1"}]})
    expect("what became of it", state_of(store, "good.png"), ("received", "oss_unavailable", 1))
    expect("what became of the poison", state_of(store, "poison.png"), ("failed", "exhausted", 5))
    expect("a second time", emulator.invoke(batch("good.png", "poison.png")), {"batchItemFailures": []})


def check_sweep(emulator: Emulator, store: dict[str, str]) -> None:
    put_record(store, "left.png", 5)
    expect("the answer", emulator.invoke({"source": "aws.events"}), {"attended": 1})
    expect("what became of it", state_of(store, "left.png"), ("failed", "exhausted", 5))
    expect("the answer when nothing is due", emulator.invoke({"source": "aws.events"}), {"attended": 0})


def check_template() -> None:
    """How the stream is followed: which changes, how often again, and where those go that are given up."""
    resources = yaml_parse((REPOSITORY / "template.yaml").read_text())["Resources"]
    stream = resources["Worker"]["Properties"]["Events"]["LeftOver"]["Properties"]
    patterns = [json.loads(entry["Pattern"]) for entry in stream["FilterCriteria"]["Filters"]]
    wanted = {"state": {"S": ["received"]}, "attempts": {"N": ["0"]}, "deferrals": {"N": ["0"]}}
    expect("the filter", patterns, [{"dynamodb": {"NewImage": wanted}}])
    expect("what is reported", list(stream["FunctionResponseTypes"]), ["ReportBatchItemFailures"])
    seen = stream["BisectBatchOnFunctionError"], stream["MaximumRetryAttempts"], stream["MaximumRecordAgeInSeconds"]
    expect("bisection, retries, age", seen, (True, 3, 3600))
    expect("the destination", stream["DestinationConfig"]["OnFailure"]["Type"], "SQS")
    handlers = {name: resources[name]["Properties"]["Handler"] for name in ("Callback", "Worker", "Sweep")}
    expect("the handlers", handlers, {"Callback": "callback", "Worker": "worker", "Sweep": "sweep"})


def check_rights() -> None:
    """Each role may query the indexes that its functions look into, and no more."""
    resources = yaml_parse((REPOSITORY / "template.yaml").read_text())["Resources"]
    for role, indexes in {"CallbackRole": ["bucket", "state", "custom.*"], "WorkerRole": ["due"]}.items():
        policies = resources[role]["Properties"]["Policies"]
        statements = [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]
        queried = [one["Resource"] for one in statements if one["Action"] == "dynamodb:Query"]
        flat = [arn for resource in queried for arn in (resource if isinstance(resource, list) else [resource])]
        expect(f"the indexes of {role}", flat, [{"Fn::Sub": f"${{Records.Arn}}/index/{index}"} for index in indexes])
        on_table = [one["Action"] for one in statements if one["Resource"] == {"Fn::GetAtt": ["Records", "Arn"]}]
        wanted = ["dynamodb:GetItem", "dynamodb:PutItem"]
        wanted = ["dynamodb:BatchGetItem", *wanted, "dynamodb:Scan"] if role == "CallbackRole" else wanted
        expect(f"the rights of {role} on the table", on_table, [wanted])


@contextmanager
def watched(environment: dict[str, str]) -> Iterator[str]:
    """`cargo lambda watch` as a developer runs it, but with the profile that is built already; its address."""
    port = free_port()
    address = ["-A", "127.0.0.1", "-P", str(port)]
    # Without -p the default function is off in a workspace, and only /lambda-url/NAME answers.
    options = ["--ignore-changes", "--profile", "quick", "-p", FUNCTION]
    command = [tool("cargo-lambda"), "lambda", "watch", *options, *address]
    environment = {**environment, "PATH": with_tools()["PATH"]}
    with running(command, environment) as watch:
        watch.wait_until("cargo lambda watch to listen", lambda: accepts(port))
        yield f"http://127.0.0.1:{port}"


def check_posted(address: str) -> None:
    request = Request.read(GENUINE / f"{FULL}.http")
    dropped = {"host", "connection", "content-length"}
    headers = {name: value for name, value in request.headers.items() if name not in dropped}
    post = urllib.request.Request(address + quote(request.path), data=request.body, headers=headers, method="POST")
    # The first request waits for cargo.
    expect("the outcome", outcome(*fetch_json(post, seconds=COMPILE_SECONDS)), RECORDED)


def main() -> int:
    suite = Suite("The function on Lambda")
    suite.run("cargo lambda build", build)
    if suite.failed:
        return suite.finish()
    suite.run("the archive is small", check_archive)
    with tempfile.TemporaryDirectory() as scratch, dynamodb() as store:
        environment = {**settings(), **store}
        with emulated(unpack(Path(scratch)), environment) as rie:
            for file in sorted(LAMBDA.glob("*.json")):
                if file.stem.startswith("rest-api"):
                    suite.run(f"emulator: {file.stem} is refused", check_refused, rie)
                else:
                    suite.run(f"emulator: {file.stem}", check_event, rie, file.stem)
            suite.run("emulator: one flipped bit", check_flipped_bit, rie)
            suite.run("emulator: the record can be read", check_record, rie)
        # A port that nobody listens on stands for an OSS that is out of reach.
        oss = {"OSS_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OSS_REGION": "cn-hangzhou"}
        oss |= {"OSS_ACCESS_KEY_ID": "nobody", "OSS_ACCESS_KEY_SECRET": "nothing"}
        worker = {"OSS_CALLBACK_STORE": f"dynamodb:{TABLE}", **store, **oss}
        with emulated(unpack(Path(scratch)), worker, "worker") as rie:
            suite.run("emulator: a batch of the stream", check_batch, rie, store)
        with emulated(unpack(Path(scratch)), worker, "sweep") as rie:
            suite.run("emulator: a sweep", check_sweep, rie, store)
        suite.run("the template follows the stream as it should", check_template)
        suite.run("the template allows what listings need", check_rights)
        with watched(environment) as address:
            suite.run("watch: a genuine callback", check_posted, address)
            suite.run("watch: the same to the function URL", check_posted, f"{address}/lambda-url/{FUNCTION}")
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
