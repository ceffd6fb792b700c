"""Uploads with the official Python SDK from several threads, and what the clients were told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

from pictures import tiny
from sdk_python import Uploader
from standin import Standin

UPLOADERS = 4
# Shared by all threads, so that they overwrite each other's objects.
TEXTS = ("docs/a.txt", "docs/ü & b.txt")
PICTURES = ("photos/a", "photos/b", "photos/c")


@dataclass(frozen=True)
class Told:
    """What a client was told of one upload."""

    key: str
    status: int
    text: str
    seconds: float

    @property
    def answer(self) -> dict[str, Any] | None:
        """The function's answer, where OSS passed one on."""
        return json.loads(self.text) if self.status == 200 else None


class Uploads:
    """Into one bucket, whose callbacks go to one URL. Any thread may upload."""

    def __init__(self, standin: Standin, callback_url: str) -> None:
        self.told: list[Told] = []
        self.folder = ""
        self._numbers = count()
        self._ready = {
            "access_key_id": standin.access_key_id,
            "access_key_secret": standin.access_key_secret,
            "region": standin.region,
            "standin": standin.endpoint,
            "bucket": standin.bucket,
            "callback_url": callback_url,
        }
        self._of_thread = threading.local()

    @property
    def client(self) -> Any:
        """The SDK's client of this thread."""
        return self._uploader().client

    def _uploader(self) -> Uploader:
        if not hasattr(self._of_thread, "uploader"):
            self._of_thread.uploader = Uploader(self._ready)
        return self._of_thread.uploader

    def put(self, key: str, data: bytes, mime: str) -> Told:
        begun = time.monotonic()
        result = self._uploader().put(key, data, mime)
        told = Told(key, result.status_code, result.callback_result, time.monotonic() - begun)
        self.told.append(told)
        return told

    def put_next(self) -> Told:
        """Texts and pictures in turn; keys come again with other content, and sometimes with the same."""
        number = next(self._numbers)
        if number % 5 < 2:
            return self.put(self.folder + TEXTS[number % 2], f"text {number // 3}\n".encode(), "text/plain")
        mime, data = tiny()[number // 2 % len(tiny())]
        return self.put(self.folder + PICTURES[number % 3], data, mime)

    def put_one_by_one(self, most: int) -> None:
        """So many, and the same in every run, so that a store grows in the same way."""
        for _ in range(most):
            self.put_next()

    def put_many(self, most: int) -> None:
        """So many from several threads at once."""
        with ThreadPoolExecutor(UPLOADERS) as threads:
            for upload in [threads.submit(self.put_next) for _ in range(most)]:
                upload.result()

    def put_until(self, over: Callable[[], bool], seconds: float) -> None:
        """Again and again from several threads at once, until it is `over`; at most for so long."""
        deadline = time.monotonic() + seconds

        def go_on() -> None:
            while not over() and time.monotonic() < deadline:
                self.put_next()

        with ThreadPoolExecutor(UPLOADERS) as threads:
            for thread in [threads.submit(go_on) for _ in range(UPLOADERS)]:
                thread.result()
