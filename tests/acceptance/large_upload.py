#!/usr/bin/env python3
"""A large object in parts, within bounded memory, and many uploads with callbacks at once.

    python3 large_upload.py [path of oss-standin] [size in GB, default 1]
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import random
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import cache, reduce
from pathlib import Path
from typing import Any
from urllib.parse import quote

from oss2.crc64_combine import mkCombineFun
from oss2.utils import Crc64

from harness import Suite, expect, expect_that
from receiver import FORM
from standin import Standin, base64_json, callback_to, standin

MIB = 1024 * 1024
BLOCK, PART = MIB, 64 * MIB
MEMORY_LIMIT = 64 * MIB
UPLOADERS = 4
KEY = "large/film.bin"
# Uploads at once: half of them put, half in parts.
CROWD = 200
SMALL_PARTS = (b"a" * 100 * 1024, b"the last part may be short")
# Every block is this, but for its first bytes, which tell the parts apart.
FILLER = random.Random(7).randbytes(BLOCK)
STAMP = 4096
combined = mkCombineFun(0x142F0E1EBA9EA3693, initCrc=0, xorOut=0xFFFFFFFFFFFFFFFF)


class Content:
    """A large object that nobody ever holds as a whole."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts = range(1, -(-size // PART) + 1)

    def size_of(self, part: int) -> int:
        return min(PART, self.size - (part - 1) * PART)

    @staticmethod
    def block_of(part: int) -> bytes:
        return part.to_bytes(STAMP) + FILLER[STAMP:]

    def blocks(self, part: int) -> Iterator[bytes]:
        block, left = self.block_of(part), self.size_of(part)
        while left:
            yield block[: min(left, BLOCK)]
            left -= min(left, BLOCK)

    def around_border(self, part: int, reach: int) -> bytes:
        """The last bytes of a part and the first of the next."""
        return self.block_of(part)[-reach:] + self.block_of(part + 1)[:reach]

    def crc64(self) -> int:
        """Computed piece by piece and put together by oss2, which the stand-in has nothing of."""
        pieces = (piece for part in self.parts for piece in self._crcs_of(part))
        return reduce(lambda whole, piece: (combined(whole[0], *piece), whole[1] + piece[1]), pieces, (0, 0))[0]

    def _crcs_of(self, part: int) -> Iterator[tuple[int, int]]:
        whole, rest = divmod(self.size_of(part), BLOCK)
        block = self.block_of(part)
        if whole:
            yield repeated((combined(crc64(block[:STAMP]), filler_crc64(), BLOCK - STAMP), BLOCK), whole)
        if rest:
            yield crc64(block[:rest]), rest


def crc64(data: bytes) -> int:
    digest = Crc64()
    digest.update(data)
    return digest.crc


@cache
def filler_crc64() -> int:
    return crc64(FILLER[STAMP:])


def repeated(piece: tuple[int, int], times: int) -> tuple[int, int]:
    """CRC and length of something that comes several times."""
    if times == 1:
        return piece
    crc, length = repeated(piece, times // 2)
    crc, length = combined(crc, crc, length), 2 * length
    return (combined(crc, *piece), length + piece[1]) if times % 2 else (crc, length)


class Client:
    """Requests signed by version 1 whose bodies may be streamed; one per thread."""

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        self.connection = http.client.HTTPConnection(standin.host, timeout=120)

    def send(
        self, method: str, key: str, query: str = "", body: Any = b"", headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """`query` is signed as a whole."""
        headers = {**(headers or {}), "Date": formatdate(usegmt=True)}
        resource = f"/{self.standin.bucket}/{key}"
        signed = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()) if name.startswith("x-oss-"))
        mime = headers.get("Content-Type", "")
        message = f"{method}\n\n{mime}\n{headers['Date']}\n{signed}{resource}{query}".encode()
        signature = base64.b64encode(hmac.digest(self.standin.access_key_secret.encode(), message, "sha1")).decode()
        headers["Authorization"] = f"OSS {self.standin.access_key_id}:{signature}"
        self.connection.request(method, quote(resource) + query, body, headers)
        return self.connection.getresponse()

    def ask(self, *arguments: Any, **named: Any) -> tuple[int, Any, bytes]:
        """Status, headers and the whole body of an answer."""
        answer = self.send(*arguments, **named)
        return answer.status, answer.headers, answer.read()

    def begin(self, key: str) -> str:
        status, _, answer = self.ask("POST", key, "?uploads")
        expect(f"the status of the beginning ({answer})", status, 200)
        return re.search(r"<UploadId>(\w+)</UploadId>", answer.decode())[1]

    def upload_part(self, key: str, upload: str, part: int, body: Any, length: int) -> str:
        """The ETag."""
        query = f"?partNumber={part}&uploadId={upload}"
        status, headers, answer = self.ask("PUT", key, query, body, {"Content-Length": str(length)})
        expect(f"the status of part {part} ({answer})", status, 200)
        return headers["ETag"]

    def complete(
        self, key: str, upload: str, etags: list[str], headers: dict[str, str] | None = None
    ) -> tuple[int, Any, bytes]:
        parts = "".join(
            f"<Part><PartNumber>{part}</PartNumber><ETag>{etag}</ETag></Part>" for part, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        return self.ask("POST", key, f"?uploadId={upload}", body, headers)


def peak_memory(standin: Standin) -> int:
    """The most that the process ever had in memory, in bytes."""
    status = Path(f"/proc/{standin.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def callback_headers(standin: Standin) -> dict[str, str]:
    return {"x-oss-callback": base64_json(callback_to(standin.receiver.url, FORM, {}))}


def check_upload(standin: Standin, content: Content) -> None:
    upload = Client(standin).begin(KEY)

    def send(part: int) -> str:
        size = content.size_of(part)
        return Client(standin).upload_part(KEY, upload, part, content.blocks(part), size)

    with ThreadPoolExecutor(UPLOADERS) as uploaders:
        etags = list(uploaders.map(send, content.parts))
    status, headers, answer = Client(standin).complete(KEY, upload, etags, callback_headers(standin))
    expect(f"the status of the completion ({answer})", status, 200)
    crc = str(content.crc64())
    expect("the CRC-64 of the whole", headers["x-oss-hash-crc64ecma"], crc)
    expect_that(headers["ETag"].endswith(f'-{len(etags)}"'), f"an ETag of {len(etags)} parts", headers["ETag"])
    told = standin.receiver.take_of(KEY).variables
    seen = (told["crc64"], told["size"], told["operation"])
    expect("what the callback says", seen, (crc, str(content.size), "CompleteMultipartUpload"))


def check_borders(standin: Standin, content: Content) -> None:
    client, reach = Client(standin), 5000
    for part in {1, len(content.parts) // 2, len(content.parts) - 2}:
        first = part * PART - reach
        headers = {"Range": f"bytes={first}-{first + 2 * reach - 1}"}
        status, headers, data = client.ask("GET", KEY, headers=headers)
        expect("the status of the range", status, 206)
        expect_that(data == content.around_border(part, reach), f"the bytes about the end of part {part}", len(data))


def check_whole(standin: Standin, content: Content) -> None:
    answer = Client(standin).send("GET", KEY)
    expect("the status", answer.status, 200)
    expect("the size", answer.length, content.size)
    for part in content.parts:
        for block in content.blocks(part):
            expect_that(answer.read(len(block)) == block, "the bytes that were uploaded", f"others in part {part}")
    expect("what follows the last byte", answer.read(1), b"")


def check_memory(standin: Standin) -> None:
    peak = peak_memory(standin)
    print(f"        peak memory: {peak / MIB:.1f} MiB", flush=True)
    expect_that(peak < MEMORY_LIMIT, f"less than {MEMORY_LIMIT // MIB} MiB at its peak", f"{peak / MIB:.1f} MiB")


def check_crowd(standin: Standin) -> None:
    headers = callback_headers(standin)

    def upload(number: int) -> int:
        client, key = Client(standin), f"crowd/{number}"
        if number % 2:
            return client.ask("PUT", key, "", SMALL_PARTS[0], headers)[0]
        upload = client.begin(key)
        etags = [client.upload_part(key, upload, part, data, len(data)) for part, data in enumerate(SMALL_PARTS, 1)]
        return client.complete(key, upload, etags, headers)[0]

    with ThreadPoolExecutor(CROWD) as crowd:
        statuses = list(crowd.map(upload, range(CROWD)))
    expect("the statuses", sorted(set(statuses)), [200])
    wanted = hashlib.md5(SMALL_PARTS[0], usedforsecurity=False).hexdigest().upper()
    for number in range(CROWD):
        etag = standin.receiver.take_of(f"crowd/{number}").variables["etag"]
        whole = etag == wanted if number % 2 else etag.endswith("-2")
        expect_that(whole, f"the ETag of upload {number} in its callback", etag)


def main() -> int:
    gigabytes = float(sys.argv[2]) if len(sys.argv) > 2 else 1
    # Not a whole number of blocks, so that the last part is odd.
    content = Content(int(gigabytes * 1e9) + 12345)
    suite = Suite(f"{gigabytes:g} GB in {len(content.parts)} parts")
    with standin(suite) as running:
        suite.run("it arrives four parts at a time, and its CRC-64 is right", check_upload, running, content)
        suite.run("ranges across the borders of parts are read", check_borders, running, content)
        suite.run("all of it is read back", check_whole, running, content)
        suite.run(f"the stand-in needed less than {MEMORY_LIMIT // MIB} MiB for it", check_memory, running)
        suite.run(f"{CROWD} uploads with callbacks at once all succeed", check_crowd, running)
        print(f"        peak memory then: {peak_memory(running) / MIB:.1f} MiB", flush=True)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
