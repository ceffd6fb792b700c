"""Callbacks signed with the stand-in's key, sent without it: for one that comes again, or many a second."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from receiver import FORM, MD5_DIGEST_INFO, der_element


class PrivateKey:
    """An RSA key out of PKCS#8 in PEM, and the one way in which OSS signs with it."""

    def __init__(self, pem: str) -> None:
        lines = [line for line in pem.splitlines() if line and not line.startswith("-----")]
        _, document, _ = der_element(base64.b64decode("".join(lines)))
        _, _, rest = der_element(document)  # version
        _, _, rest = der_element(rest)  # algorithm
        _, octets, _ = der_element(rest)
        _, rest, _ = der_element(octets)
        numbers = []
        while rest:
            _, content, rest = der_element(rest)
            numbers.append(int.from_bytes(content))
        _, self.modulus, _, self.exponent, *_ = numbers
        self.length = (self.modulus.bit_length() + 7) // 8

    def sign(self, message: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with MD5."""
        digest = MD5_DIGEST_INFO + hashlib.md5(message, usedforsecurity=False).digest()
        padded = b"\x00\x01" + b"\xff" * (self.length - len(digest) - 3) + b"\x00" + digest
        return pow(int.from_bytes(padded), self.exponent, self.modulus).to_bytes(self.length)


@dataclass(frozen=True)
class Callback:
    """As it goes over the wire; sent twice it is the same callback."""

    url: str
    headers: dict[str, str]
    body: bytes

    def send(self, seconds: float = 15) -> tuple[int, dict[str, Any]]:
        """On a connection of its own: the status and the JSON of the answer."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
        try:
            connection.request("POST", parts.path, self.body, self.headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@dataclass(frozen=True)
class Signer:
    """A stand-in's key, and the URL that callbacks claim it is at."""

    key: PrivateKey
    key_url: str

    @classmethod
    def of(cls, data: Path, key_url: str) -> Signer:
        """With the key in the folder of a stand-in."""
        return cls(PrivateKey((data / "keys/callback-512.pem").read_text()), key_url)

    def callback(self, url: str, variables: dict[str, str]) -> Callback:
        """To a URL with a plain path and no query."""
        body = urlencode(variables).encode()
        signature = self.key.sign(urlsplit(url).path.encode() + b"\n" + body)
        headers = {
            "Authorization": base64.b64encode(signature).decode(),
            "Content-MD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
            "Content-Type": FORM,
            "x-oss-pub-key-url": base64.b64encode(self.key_url.encode()).decode(),
            "x-oss-signature-version": "1.0",
        }
        return Callback(url, headers, body)
