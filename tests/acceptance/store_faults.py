#!/usr/bin/env python3
"""DynamoDB fails the server at every request in turn, while uploads run; afterwards all records are right.

    python3 store_faults.py [path of oss-standin]

Between the built server and a DynamoDB in memory stands a proxy that fails the k-th request of a round, or that and the
next ones, so that the repetition of a request fails too.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from dynamodb import TABLE, dynamodb
from harness import Suite, expect, expect_that
from invariants import ANSWER_SECONDS, judge, summary
from receiver import Server as HttpServer
from server import Server, serving
from standin import Standin, standin
from uploads import Uploads

UPLOADS = 6
FOLDERS = 3
REST_SECONDS = 120
ENDPOINT = "AWS_ENDPOINT_URL_DYNAMODB"
# Those that callbacks wait for. What is due is asked for all the time, and must not make the count uncertain.
COUNTED = {"GetItem", "PutItem"}
GIVES_UP_SECONDS = 10
FAULTS = {
    "throttled": "it refuses, having too little capacity",
    "error": "it answers 500",
    "reset": "the connection is reset before anything is done",
    "swallowed": "it does as asked, and never answers",
    "lost": "it does as asked, and the connection is reset",
    "foreign": "another writer is faster, so that the condition fails",
}
# A request is made twice at most, so that the second kind is seen by callbacks.
RUNS = (1, 4)


@dataclass
class Order:
    """What to do to which of the counted requests."""

    fault: str
    first: int
    last: int


class Proxy:
    """The running proxy. Without an order it passes everything on."""

    def __init__(self, endpoint: str) -> None:
        self.backend = urlsplit(endpoint).netloc
        self.counted = 0
        self.struck = 0
        self._order: Order | None = None
        self._lock = threading.Lock()
        self._server = HttpServer(("127.0.0.1", 0), handler_of(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def obey(self, order: Order | None) -> None:
        """From now on, counting from 1."""
        with self._lock:
            self._order, self.counted, self.struck = order, 0, 0

    def fault_of(self, operation: str) -> str | None:
        """What is to happen to the next request, which is this."""
        with self._lock:
            order = self._order
            counts = operation == "PutItem" if order and order.fault == "foreign" else operation in COUNTED
            if not counts:
                return None
            self.counted += 1
            if order and order.first <= self.counted <= order.last:
                self.struck += 1
                return order.fault
            return None

    def pass_on(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.backend, timeout=30)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def handler_of(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fault = proxy.fault_of(self.headers["X-Amz-Target"].rpartition(".")[2])
            try:
                self.answer_with(fault, body)
            except OSError:
                # The client gave up, or the backend is being stopped.
                self.close_connection = True

        def answer_with(self, fault: str | None, body: bytes) -> None:
            match fault:
                case "throttled":
                    self.refuse(400, "ProvisionedThroughputExceededException")
                case "error":
                    self.refuse(500, "InternalServerError")
                case "reset":
                    self.reset()
                case "swallowed":
                    self.pass_on(body)
                    # Until the client has enough of it.
                    select.select([self.connection], [], [], GIVES_UP_SECONDS)
                    self.reset()
                case "lost":
                    self.pass_on(body)
                    self.reset()
                case "foreign":
                    self.pass_on(as_of_another(body))
                    self.answer(*self.pass_on(body))
                case _:
                    self.answer(*self.pass_on(body))

        def pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            headers = {**self.headers, "Host": proxy.backend, "Content-Length": str(len(body))}
            return proxy.pass_on(self.path, headers, body)

        def refuse(self, status: int, name: str) -> None:
            body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{name}", "message": "as asked for"})
            self.answer(status, [("Content-Type", "application/x-amz-json-1.0")], body.encode())

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # At once: the server would say goodbye first.
            os.close(self.connection.detach())
            raise ConnectionResetError

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def as_of_another(body: bytes) -> bytes:
    """The same write by somebody else, who takes the lease if there is one to take."""
    request = json.loads(body)
    request["Item"]["write"] = {"S": "somebody else's"}
    if "lease" in request["Item"]:
        request["Item"]["lease"]["M"]["owner"] = {"S": "somebody else"}
    return json.dumps(request).encode()


@contextmanager
def proxied(endpoint: str) -> Iterator[Proxy]:
    proxy = Proxy(endpoint)
    try:
        yield proxy
    finally:
        proxy.stop()


def check_unharmed(proxy: Proxy, uploads: Uploads) -> None:
    proxy.obey(None)
    uploads.put_many(UPLOADS)
    expect("the statuses", {told.status for told in uploads.told}, {200})
    expect_that(proxy.counted > UPLOADS, "requests to the store", proxy.counted)


def check_rounds(proxy: Proxy, uploads: Uploads, fault: str, length: int, most: int) -> None:
    """Uploads for each k."""
    struck = 0
    for first in range(1, most + 1):
        # Elsewhere, so that not everything is put right by the next round.
        uploads.folder = f"{fault}-{length}-{first % FOLDERS}/"
        proxy.obey(Order(fault, first, first + length - 1))
        uploads.put_many(UPLOADS)
        struck += proxy.struck
    proxy.obey(None)
    expect_that(struck >= most // 2, f"at least {most // 2} requests to be struck", struck)
    print(f"        {most} rounds, {struck} requests struck")


def check_answers(journal: Path, bucket: str) -> None:
    """Each callback was answered in JSON and in time, as its sender sees it."""
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    ours = {event["request_id"] for event in events if event.get("bucket") == bucket}
    answers = [e for e in events if e["event"] == "callback_answer" and e["request_id"] in ours]
    wrong = [answer for answer in answers if not is_good(answer)]
    expect("what is wrong", summary(wrong), [])
    refused = [answer for answer in answers if answer["status"] == 503]
    expect_that(0 < len(refused) < len(answers), "some that were refused, the store having failed", len(refused))
    slowest = max(answer["milliseconds"] for answer in answers)
    print(f"        {len(answers)} answers, {len(refused)} of them 503, the slowest after {slowest} ms")


def is_good(answer: dict[str, Any]) -> bool:
    try:
        body = json.loads(answer.get("body", ""))
    except ValueError:
        return False
    in_time = answer["milliseconds"] < ANSWER_SECONDS * 1000
    match answer.get("status"):
        case 200:
            return in_time and "generation" in body
        case 503:
            return in_time and body["error"]["code"] in ("store_unavailable", "timeout", "busy")
        case _:
            return False


def check_invariants(server: Server, standin: Standin, uploads: Uploads) -> None:
    expect("what is broken", summary(judge(server, standin, uploads, REST_SECONDS)), [])


def main() -> int:
    suite = Suite("DynamoDB fails")
    with TemporaryDirectory() as scratch, dynamodb() as store, proxied(store[ENDPOINT]) as proxy:
        journal = Path(scratch) / "journal"
        with standin(suite, "--journal", str(journal)) as oss:
            environment = {**store, ENDPOINT: proxy.url, "OSS_CALLBACK_STORE": f"dynamodb:{TABLE}"}
            with serving(oss, Path(scratch), [oss.bucket], **environment) as server:
                uploads = Uploads(oss, server.callback_url)
                suite.run("without faults all is well", check_unharmed, proxy, uploads)
                most = proxy.counted
                for fault, meaning in FAULTS.items():
                    for length in RUNS:
                        name = f"{meaning}: {length} in a row, from each of {most} requests"
                        suite.run(name, check_rounds, proxy, uploads, fault, length, most)
                suite.run("every answer is JSON, in time", check_answers, journal, oss.bucket)
                suite.run("nothing is lost or doubled", check_invariants, server, oss, uploads)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
