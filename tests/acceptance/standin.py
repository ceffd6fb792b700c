"""A running `oss-standin` over fresh data, with a callback receiver beside it, for the scripts that try clients."""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, urlsplit

from harness import TARGET, Suite, running
from receiver import JSON, Received, Receiver, receiving

ACCESS_KEY_ID, ACCESS_KEY_SECRET = "AcceptanceKeyId", "AcceptanceKeySecret"
VARIABLES = (
    *("bucket", "object", "etag", "size", "mimeType", "imageInfo.height", "imageInfo.width", "imageInfo.format"),
    *("crc64", "contentMd5", "vpcId", "clientIp", "reqId", "operation"),
)


@dataclass(frozen=True)
class Standin:
    """What clients need to know of it."""

    endpoint: str
    bucket: str
    region: str
    receiver: Receiver
    pid: int
    data: Path
    access_key_id: str = ACCESS_KEY_ID
    access_key_secret: str = ACCESS_KEY_SECRET

    def of_bucket(self, bucket: str) -> Standin:
        """The same with another bucket, which is made."""
        other = replace(self, bucket=bucket)
        status, _, body = other.signed("PUT", "")
        if status != 200:
            raise AssertionError(f"the bucket {bucket} cannot be made: {status} {body!r}")
        return other

    def arm(self, *faults: str, seed: int = 0) -> None:
        """These faults and no others."""
        order = json.dumps({"faults": faults, "seed": seed}).encode()
        status, _, body = send("POST", f"{self.endpoint}/_standin/faults", {}, order)
        if status != 200:
            raise AssertionError(f"the faults {faults} are refused: {body!r}")

    @property
    def host(self) -> str:
        """Address and port."""
        return self.endpoint.removeprefix("http://")

    def journal(self) -> list[dict[str, Any]]:
        """The newest events, oldest first."""
        _, _, lines = send("GET", f"{self.endpoint}/_standin/journal", {})
        return [json.loads(line) for line in lines.splitlines()]

    def signed(self, method: str, key: str, data: bytes = b"", mime: str = "") -> tuple[int, dict[str, str], bytes]:
        """A request about an object, signed without any SDK (version 1): status, headers, body."""
        path, date = f"/{self.bucket}/{key}", formatdate(usegmt=True)
        message = f"{method}\n\n{mime}\n{date}\n{path}".encode()
        signature = base64.b64encode(hmac.digest(self.access_key_secret.encode(), message, "sha1")).decode()
        headers = {"Date": date, "Authorization": f"OSS {self.access_key_id}:{signature}"}
        if mime:
            headers["Content-Type"] = mime
        return send(method, self.endpoint + quote(path), headers, data)


def send(method: str, url: str, headers: dict[str, str], data: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """One request with these headers and none of a library's own but Host and Content-Length."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=15)
    try:
        target = parts.path + ("?" + parts.query if parts.query else "")
        connection.request(method, target, data or None, headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def standin_binary() -> str:
    """`oss-standin`, as the first argument that is no option or as .ci/run builds it."""
    named = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    path = Path(named or TARGET / "quick/oss-standin").absolute()
    if not path.exists():
        sys.exit(f"no {path}: cargo build --profile quick -p oss-standin, or give its path as the argument")
    return str(path)


@contextmanager
def standin(suite: Suite, *flags: str) -> Iterator[Standin]:
    """Started with further `flags`, and stopped whatever happens. That it starts is a check of the suite."""
    with TemporaryDirectory() as data:
        command = [standin_binary(), "serve", "--listen", "127.0.0.1:0", "--data", data, *flags]
        command += ["--access-key-id", ACCESS_KEY_ID, "--access-key-secret", ACCESS_KEY_SECRET]
        with running(command) as program:
            ready: dict[str, Any] = {}
            suite.run("oss-standin gets ready", lambda: ready.update(json.loads(program.first_line())))
            if not ready:
                sys.exit(suite.finish())
            with receiving(ready["key_url"]) as receiver:
                pid = program.process.pid
                yield Standin(ready["listen"], ready["bucket"], ready["region"], receiver, pid, Path(data))


def template(body_type: str, custom: dict[str, str]) -> str:
    """A callback body with every system variable and, under their names, those in `custom`, which begin with `x:`."""
    names = {**{name: name for name in VARIABLES}, **{name.removeprefix("x:"): name for name in custom}}
    if body_type == JSON:
        # OSS itself puts the quotes around strings.
        return "{" + ",".join(f'"{field}":${{{name}}}' for field, name in names.items()) + "}"
    return "&".join(f"{field}=${{{name}}}" for field, name in names.items())


def callback_to(url: str, body_type: str, custom: dict[str, str]) -> dict[str, str]:
    """The parameter `callback` as every SDK takes it, before it is encoded."""
    return {"callbackUrl": url, "callbackBody": template(body_type, custom), "callbackBodyType": body_type}


def base64_json(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def as_sent(wanted: dict[str, Any], body_type: str) -> dict[str, Any]:
    """How a callback of that type words these values: JSON has numbers and null, a form has text."""
    if body_type == JSON:
        return {name: None if value == "" else value for name, value in wanted.items()}
    return {name: str(value) for name, value in wanted.items()}


def differences(received: Received, wanted: dict[str, Any], body_type: str) -> dict[str, tuple[Any, Any]]:
    """Each variable that is not as it is `wanted`: what was seen and what was expected."""
    seen = received.variables
    worded = as_sent(wanted, body_type)
    return {name: (seen.get(name, "absent"), value) for name, value in worded.items() if seen.get(name) != value}
