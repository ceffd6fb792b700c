#!/usr/bin/env python3
"""A page of another origin, in Chromium, on the stand-in: ali-oss's browser build, forms, presigned requests.

    python3 standin_browser.py [path of oss-standin]      needs /usr/bin/chromium
"""

from __future__ import annotations

import sys
from typing import Any

from agent import Agent
from harness import HERE, Suite, expect, expect_that
from judge import CUSTOM, Upload, etag_of
from receiver import FORM, JSON
from standin import Standin, base64_json, standin
from standin_checks import Checks, in_an_hour, post_fields_v4
from standin_node import ali_oss, settings

DOES = {
    *("put", "put_file", "multipart", "upload_file", "presign_put", "presign_get", "post_fields"),
    *("get", "get_range", "get_unless", "image_info"),
    *("list_v1", "list_v2", "delete", "delete_many"),
}
EXPOSED = ["ETag", "x-oss-request-id", "x-oss-meta-colour", "x-oss-meta-two-words"]


def page(standin: Standin, version: str) -> Agent:
    """The page names the bucket in the path: it cannot choose the Host header."""
    # The browser's build signs forms by version 4 only.
    does = DOES if version == "v4" else DOES - {"post_fields"}
    command = ["node", str(HERE / "standin_browser.mjs")]
    return Agent(f"ali-oss in a page {version}", command, does, settings(standin, version, path_style=True))


class PageChecks(Checks):
    """Presigned requests and forms are sent by the page too, with `fetch`."""

    def send(
        self, method: str, url: str, headers: dict[str, str], data: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        answer = self.client.do("fetch", method=method, url=url, headers=headers, data=data)
        return answer["status"], answer["headers"], answer["data"]

    def send_form(self, url: str, fields: dict[str, str], data: bytes) -> tuple[int, dict[str, str], bytes]:
        # Without a type of the file a browser sends application/octet-stream, which goes before the field Content-Type.
        typed = {**fields, "x-oss-content-type": fields["Content-Type"]}
        answer = self.client.do("fetch_form", url=url, fields=typed, data=data)
        return answer["status"], answer["headers"], answer["data"]

    def all(self) -> None:
        super().all()
        self.run("put", "a presigned PUT with a header of its own", self.check_own_header)
        for body_type in (FORM, JSON):
            self.run("put", f"a form by XMLHttpRequest with a callback as {body_type}", self.check_xhr, body_type)
        self.run("put", "a plain form is redirected", self.check_redirect)
        self.run("put", "a plain form with a callback shows its answer", self.check_plain_form)

    def check_own_header(self) -> None:
        """After a preflight that asks for it; and the page can read the ETag and the request's number."""
        key = self.key("described ü.txt")
        signed = self.client.do("presign_put", key=key, mime="text/x-mine", metadata={"colour": "blue"})
        status, answered, body = self.send("PUT", signed["url"], signed["headers"], b"12345")
        expect(f"the status ({body!r})", status, 200)
        expect("the ETag that the page can read", answered.get("etag"), f'"{etag_of(b"12345")}"')
        expect_that(bool(answered.get("x-oss-request-id")), "x-oss-request-id", answered)
        expect("the header as stored", self.judge.head(key).get("x-oss-meta-colour"), "blue")

    def fields(self, key: str, more: dict[str, str]) -> dict[str, str]:
        """A form that OSS takes, signed by version 4, with its callback bound by the policy."""
        conditions: list[Any] = [{"bucket": self.standin.bucket}, ["eq", "$key", key]]
        conditions += [{"callback": more["callback"]}] if "callback" in more else []
        signed = post_fields_v4(self.standin, {"expiration": in_an_hour(), "conditions": conditions})
        return {"key": key, **signed, **more}

    @property
    def url(self) -> str:
        return f"{self.standin.endpoint}/{self.standin.bucket}"

    def check_xhr(self, body_type: str) -> None:
        upload = Upload("form", self.key("by xhr ü.txt"), b"chosen by somebody\r\n\r\n--", "text/x-xhr", body_type)
        more = {"callback": base64_json(self.judge.callback(body_type)), **CUSTOM, "Content-Type": "text/goes-last"}
        fields = self.fields(upload.key, more)
        shown = self.client.do("xhr_form", url=self.url, fields=fields, data=upload.data, type=upload.mime)
        expect_that(bool(shown["etag"] and shown["request_id"]), "ETag and request's number for the page", shown)
        expect_that(shown["sent"] > len(upload.data), "progress", shown["sent"])
        self.judge.succeeded(upload, shown)

    def check_redirect(self) -> None:
        key, data = self.key("redirected ü.txt"), b"without any script"
        shown = self.client.do("submit", url=self.url, fields=self.fields(key, {}), data=data, redirect=True)
        # That the page is told is not documented: S3 does so.
        expect_that(shown["came_back"], "the page that the form names", shown)
        wanted = {"bucket": self.standin.bucket, "key": key, "etag": self.judge.head(key)["etag"]}
        expect("what it is told", shown["query"], wanted)
        expect("the content as stored", self.judge.stored(key), data)

    def check_plain_form(self) -> None:
        upload = Upload("form", self.key("plain ü.txt"), b"without any script", "application/octet-stream", JSON)
        fields = self.fields(upload.key, {"callback": base64_json(self.judge.callback(JSON)), **CUSTOM})
        shown = self.client.do("submit", url=self.url, fields=fields, data=upload.data, redirect=False)
        self.judge.succeeded(upload, shown)


def check_kept_out(client: Agent) -> None:
    """As OSS does with a bucket that has no CORS rule."""
    try:
        client.do("put", key="kept out.txt", data=b"x", mime="text/plain")
    except AssertionError as fault:
        expect_that("XHR" in str(fault) or "Failed to fetch" in str(fault), "a fault of the network", fault)
    else:
        raise AssertionError("expected that the browser keeps the page out, saw an upload")


def main() -> int:
    suite = Suite("Chromium on the stand-in")
    with standin(suite) as running:
        for version in ("v1", "v4"):
            with page(running, version) as client:
                PageChecks(suite, running, client).all()
    with standin(suite, "--strict-cors") as running:
        with page(running, "v4") as client, ali_oss(running, "v4") as owner:
            checks = PageChecks(suite, running, client)
            suite.run("a page is kept out of a bucket without CORS rules", check_kept_out, client)
            suite.run("the owner lets pages in", lambda: owner.do("allow_pages", headers=EXPOSED))
            suite.run("then a page uploads", checks.check_upload, "put", JSON)
            suite.run("and reads the headers that the rule exposes", checks.check_metadata)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
