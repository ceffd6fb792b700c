#!/usr/bin/env python3
"""A callback server that records and proves what it is sent; its path chooses how it answers.

    python3 receiver.py KEY_URL     for clients in other languages: one ready line of JSON, then GET /requests lists all

It shares no code with the receiver that this project builds: the signature is checked from the protocol alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from harness import wait_for

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
MD5_DIGEST_INFO = bytes.fromhex("3020300c06082a864886f70d020505000410")
HANG_SECONDS = 60
# What the client must be told, by the last part of the path that was called; `ok` and `json-array` are successes.
FAILURES = {
    "500": r"Error status : 500\.",
    "hang": r"timeout|Cost too long time",
    "not-json": r"Response body is not valid json format\.",
    "no-length": r"missing content-length",
}
MODES = ("ok", "json-array", *FAILURES)


@dataclass(frozen=True)
class Received:
    """One callback as it came in. `fault` is None if the signature proves it."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    fault: str | None

    @property
    def verified(self) -> bool:
        return self.fault is None

    @property
    def variables(self) -> dict[str, Any]:
        """The body's fields: text in a form, typed in JSON."""
        if self.headers.get("content-type") == JSON:
            return json.loads(self.body)
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))


class PublicKey:
    """An RSA key out of SPKI in PEM, and the one way in which OSS signs with it."""

    def __init__(self, pem: str) -> None:
        lines = [line for line in pem.splitlines() if line and not line.startswith("-----")]
        _, document, _ = der_element(base64.b64decode("".join(lines)))
        _, _, bits = der_element(document)
        _, bit_string, _ = der_element(bits)
        _, numbers, _ = der_element(bit_string[1:])
        _, modulus, exponent = der_element(numbers)
        self.modulus = int.from_bytes(modulus)
        self.exponent = int.from_bytes(der_element(exponent)[1])
        self.length = (self.modulus.bit_length() + 7) // 8

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """RSASSA-PKCS1-v1_5 with MD5, the padding compared as a whole."""
        digest = MD5_DIGEST_INFO + hashlib.md5(message, usedforsecurity=False).digest()
        padded = b"\x00\x01" + b"\xff" * (self.length - len(digest) - 3) + b"\x00" + digest
        opened = pow(int.from_bytes(signature), self.exponent, self.modulus).to_bytes(self.length)
        return len(signature) == self.length and opened == padded


def der_element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first element, and what follows it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    return tag, data[start : start + length], data[start + length :]


def fault_of(key: PublicKey, key_url: str, path: str, headers: dict[str, str], body: bytes) -> str | None:
    """Why a callback is not proven, or None."""
    if headers.get("x-oss-signature-version") != "1.0":
        return f"x-oss-signature-version is {headers.get('x-oss-signature-version')!r}, not '1.0'"
    claimed = base64.b64decode(headers.get("x-oss-pub-key-url", "")).decode()
    if claimed != key_url:
        return f"x-oss-pub-key-url is {claimed!r}, not {key_url!r}"
    path, mark, query = path.partition("?")
    message = unquote_to_bytes(path) + (mark + query).encode() + b"\n" + body
    if not key.verifies(base64.b64decode(headers.get("authorization", ""), validate=True), message):
        return "the signature in Authorization does not fit path, query and body"
    if base64.b64decode(headers.get("content-md5", "")) != hashlib.md5(body, usedforsecurity=False).digest():
        return "Content-MD5 does not fit the body"
    return None


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # connections that come at once and are yet to be accepted


class Receiver:
    """The running server. `url` succeeds; `url_of` answers in one of MODES."""

    def __init__(self, key_url: str) -> None:
        self.key_url = key_url
        self.requests: list[Received] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), handler_of(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return self.url_of("ok")

    def url_of(self, mode: str) -> str:
        """The query is part of what is signed."""
        return f"http://127.0.0.1:{self._server.server_port}/{mode}?from=receiver&at=callback"

    def record(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Received:
        try:
            fault = fault_of(self.key, self.key_url, path, headers, body)
        except (OSError, ValueError) as cause:
            fault = f"it cannot be judged: {cause!r}"
        received = Received(method, path, headers, body, fault)
        with self._lock:
            self.requests.append(received)
        return received

    def take(self, wanted: Callable[[Received], bool] = lambda _: True, seconds: float = 5) -> Received:
        """Waits for the first callback that is `wanted` and takes it off the list; fails if its signature is wrong."""

        def first() -> Received | None:
            with self._lock:
                found = next((request for request in self.requests if wanted(request)), None)
                if found:
                    self.requests.remove(found)
                return found

        received = wait_for("a callback", first, seconds)
        if received.fault:
            raise AssertionError(f"{received.method} {received.path} is not proven: {received.fault}")
        return received

    def take_of(self, key: str, seconds: float = 5) -> Received:
        """The same for the callback about one object."""
        return self.take(lambda request: request.variables.get("object") == key, seconds)

    @cached_property
    def key(self) -> PublicKey:
        with urllib.request.urlopen(self.key_url, timeout=5) as answer:
            return PublicKey(answer.read().decode())

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


def handler_of(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = receiver.record(self.command, self.path, headers, body)
            self.answer_as(self.path.partition("?")[0].strip("/"), received)

        def do_GET(self) -> None:
            listed = [
                {**asdict(request), "body": request.body.decode(), "verified": request.verified}
                for request in receiver.requests
            ]
            self.answer(200, json.dumps(listed).encode())

        def answer_as(self, mode: str, received: Received) -> None:
            match mode:
                case "ok":
                    answer = {"status": "ok", "verified": received.verified, "variables": received.variables}
                    self.answer(200, json.dumps(answer).encode())
                case "json-array":
                    self.answer(200, b'["array"]')
                case "500":
                    self.answer(500, b'{"error":"as asked for"}')
                case "hang":
                    receiver.released.wait(HANG_SECONDS)
                case "not-json":
                    self.answer(200, b"<html>fine</html>")
                case "no-length":
                    self.answer(200, b'{"status":"ok"}', with_length=False)
                case _:
                    self.answer(404, b'{"error":"no such mode"}')

        def answer(self, status: int, body: bytes, with_length: bool = True) -> None:
            self.send_response(status)
            self.send_header("Content-Type", JSON)
            if with_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def receiving(key_url: str) -> Iterator[Receiver]:
    receiver = Receiver(key_url)
    try:
        yield receiver
    finally:
        receiver.stop()


def main() -> int:
    with receiving(sys.argv[1]) as receiver:
        urls = {mode: receiver.url_of(mode) for mode in MODES}
        listing = receiver.url.partition("/ok")[0] + "/requests"
        print(json.dumps({"event": "ready", "callback_urls": urls, "requests": listing}), flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
