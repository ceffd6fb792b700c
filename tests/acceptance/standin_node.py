#!/usr/bin/env python3
"""ali-oss in Node on the stand-in, with both versions of signatures, with and without a token.

    python3 standin_node.py [path of oss-standin]
"""

from __future__ import annotations

import sys
from typing import Any

from agent import Agent
from harness import HERE, Suite
from standin import Standin, standin
from standin_checks import Checks

DOES = {
    *("put", "put_stream", "put_file", "multipart", "upload_file", "presign_put", "presign_get", "post_fields"),
    *("get", "get_range", "get_unless", "head", "image_info"),
    *("list_v1", "list_v2", "delete", "delete_many", "create_bucket", "bucket_info"),
}


def settings(standin: Standin, version: str, token: str | None = None, path_style: bool = False) -> dict[str, Any]:
    """What the programs in JavaScript are started with."""
    return {
        "endpoint": standin.endpoint,
        "bucket": standin.bucket,
        "region": standin.region,
        "access_key_id": standin.access_key_id,
        "access_key_secret": standin.access_key_secret,
        "version": version,
        "token": token,
        "path_style": path_style,
    }


def ali_oss(standin: Standin, version: str, token: str | None = None) -> Agent:
    """It puts the bucket into Host, as it does with every address, and takes a 203 for an error."""
    name = f"ali-oss {version}{' with a token' if token else ''}"
    does = {*DOES, "presign_put_query"} if version == "v4" else DOES
    return Agent(name, ["node", str(HERE / "standin_node.mjs")], does, settings(standin, version, token))


def main() -> int:
    suite = Suite("ali-oss on the stand-in")
    with standin(suite) as running:
        for version in ("v1", "v4"):
            with ali_oss(running, version) as client:
                Checks(suite, running, client).all()
            with ali_oss(running, version, "a/token+=") as client:
                Checks(suite, running, client).with_token()
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
