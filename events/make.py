#!/usr/bin/env python3
"""Makes events/lambda from events/genuine, and proves that every one of them is still what OSS signed.

    python3 events/make.py           writes events/lambda
    python3 events/make.py --check   writes nothing; fails if a file differs or a signature does not verify

Standard library only. The verification is written from the protocol, not from the code under test.
"""

import argparse
import base64
import hashlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote_to_bytes

HERE = Path(__file__).resolve().parent
GENUINE = HERE / "genuine"
LAMBDA = HERE / "lambda"

# The key that Alibaba Cloud publishes as callback_pub_key_v1.pem: RSA, 512 bits.
MODULUS = int(
    "ab3f2411b3c1407669586de1cac1c77a083c12cdb231ac0b47d35effa7be59a4"
    "96f91ca25be9bd72d38dac541d1dd6f4b5f14361075c025f081fba1f6605d64f",
    16,
)
EXPONENT = 65537
KEY_BYTES = 64
MD5_DIGEST_INFO = bytes.fromhex("3020300c06082a864886f70d020505000410")

FORM = "application/x-www-form-urlencoded"
ACCOUNT = "123456789012"
HTTP_API = "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"
FUNCTION_URL = "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6.lambda-url.eu-central-1.on.aws"


@dataclass(frozen=True)
class Request:
    """One callback as OSS sent it."""

    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def read(cls, file: Path) -> "Request":
        head, body = file.read_bytes().split(b"\r\n\r\n", 1)
        request_line, *lines = head.decode("ascii").split("\r\n")
        _method, target, _protocol = request_line.split(" ")
        path, _, query = target.partition("?")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return cls(path, query, headers, body)

    def string_to_sign(self) -> bytes:
        query = f"?{self.query}" if self.query else ""
        return unquote_to_bytes(self.path) + query.encode() + b"\n" + self.body


def fault(request: Request) -> str | None:
    """Why this is not a callback that OSS signed, or None if it is."""
    if int(request.headers["content-length"]) != len(request.body):
        return f"Content-Length {request.headers['content-length']}, but the body has {len(request.body)} bytes"
    content_md5 = base64.b64encode(hashlib.md5(request.body).digest()).decode()
    if request.headers.get("content-md5", content_md5) != content_md5:
        return f"Content-MD5 {request.headers['content-md5']}, but that of the body is {content_md5}"
    signature = base64.b64decode(request.headers["authorization"], validate=True)
    opened = pow(int.from_bytes(signature, "big"), EXPONENT, MODULUS).to_bytes(KEY_BYTES, "big")
    tail = b"\x00" + MD5_DIGEST_INFO + hashlib.md5(request.string_to_sign()).digest()
    if opened != b"\x00\x01".ljust(KEY_BYTES - len(tail), b"\xff") + tail:
        return f"the signature does not match {request.string_to_sign()!r}"
    return None


def gateway_headers(request: Request, host: str) -> dict[str, str]:
    """What a gateway hands on: its own Host, no Connection, and what it adds itself."""
    dropped = {"host", "connection"}
    return {
        **{name: value for name, value in sorted(request.headers.items()) if name not in dropped},
        "host": host,
        "x-amzn-trace-id": "Root=1-5cf3e782-1ab22d0fdb86704d00000000",
        "x-forwarded-for": "192.0.2.10",
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }


def gateway_body(request: Request) -> dict:
    """Only JSON and text arrive as text; a form arrives in Base64."""
    if request.headers["content-type"] == FORM:
        return {"body": base64.b64encode(request.body).decode(), "isBase64Encoded": True}
    return {"body": request.body.decode(), "isBase64Encoded": False}


def payload_2_0(request: Request, host: str, raw_path: str, stage: str = "$default", route: str = "$default") -> dict:
    query = {"queryStringParameters": dict(parse_qsl(request.query))} if request.query else {}
    return {
        "version": "2.0",
        "routeKey": route,
        "rawPath": raw_path,
        "rawQueryString": request.query,
        "headers": gateway_headers(request, host),
        **query,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": host.partition(".")[0],
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": {
                "method": "POST",
                "path": unquote_to_bytes(raw_path).decode(),
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.10",
                "userAgent": request.headers.get("user-agent", "aliyun-oss-callback"),
            },
            "requestId": "bGVnZW5kYXJ5LXNlY3JldA==",
            "routeKey": route,
            "stage": stage,
            "time": "02/Jun/2019:15:13:06 +0000",
            "timeEpoch": 1559488386000,
        },
        **gateway_body(request),
    }


def http_api(request: Request) -> dict:
    """An HTTP API decodes rawPath."""
    path = unquote_to_bytes(request.path).decode()
    return payload_2_0(request, HTTP_API, path, route=f"POST {path}")


def http_api_named_stage(request: Request) -> dict:
    """OSS called /STAGE/ROUTE and signed that; rawPath begins with the stage as well."""
    stage, route = request.path.strip("/").split("/", 1)
    return payload_2_0(request, HTTP_API, request.path, stage=stage, route=f"POST /{route}")


def http_api_custom_domain(request: Request) -> dict:
    """A custom domain mapped to a named stage: OSS called and signed /ROUTE, yet rawPath begins with the stage."""
    return payload_2_0(
        request, "callback.example.com", f"/prod{request.path}", stage="prod", route=f"POST {request.path}"
    )


def function_url(request: Request) -> dict:
    """A function URL leaves rawPath as it came."""
    return payload_2_0(request, FUNCTION_URL, request.path)


def rest_api(request: Request) -> dict:
    """Payload 1.0: the raw query is lost, so the function must refuse it by name."""
    headers = gateway_headers(request, HTTP_API)
    query = dict(parse_qsl(request.query)) or None
    return {
        "version": "1.0",
        "resource": request.path,
        "path": request.path,
        "httpMethod": "POST",
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": query,
        "multiValueQueryStringParameters": query and {name: [value] for name, value in query.items()},
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "a1b2c3d4e5",
            "domainName": HTTP_API,
            "domainPrefix": "a1b2c3d4e5",
            "httpMethod": "POST",
            "identity": {"sourceIp": "192.0.2.10", "userAgent": "aliyun-oss-callback"},
            "path": f"/prod{request.path}",
            "protocol": "HTTP/1.1",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "requestTime": "02/Jun/2019:15:13:06 +0000",
            "requestTimeEpoch": 1559488386000,
            "resourceId": "123456",
            "resourcePath": request.path,
            "stage": "prod",
        },
        **gateway_body(request),
    }


def lambda_events(genuine: dict[str, Request]) -> dict[str, dict]:
    full = genuine["full-header-set"]
    # OSS signs the decoded path, so the very signature holds for every way of writing it.
    percent_encoded = replace(full, path=full.path.replace("/Ali", "/%41li"))
    events = {f"http-api-{name}": http_api(request) for name, request in genuine.items()}
    events |= {
        f"function-url-{name}": function_url(genuine[name])
        for name in ("query-in-path", "json-body", "full-header-set")
    }
    events["http-api-named-stage"] = http_api_named_stage(full)
    events["http-api-custom-domain"] = http_api_custom_domain(full)
    events["function-url-percent-encoded-path"] = function_url(percent_encoded)
    events["rest-api-payload-1.0"] = rest_api(genuine["query-in-path"])
    return events


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="write nothing, only compare")
    check_only = arguments.parse_args().check

    genuine = {file.stem: Request.read(file) for file in sorted(GENUINE.glob("*.http"))}
    faults = [f"genuine/{name}.http: {why}" for name, request in genuine.items() if (why := fault(request))]

    wanted = {
        LAMBDA / f"{name}.json": json.dumps(event, indent=2) + "\n" for name, event in lambda_events(genuine).items()
    }
    if not check_only:
        for file, text in wanted.items():
            file.write_text(text)
    for file in sorted(wanted.keys() | set(LAMBDA.glob("*.json"))):
        if not file.exists() or file.read_text() != wanted.get(file):
            faults.append(f"lambda/{file.name}: not what make.py writes")

    print("\n".join(faults), file=sys.stderr, end="\n" if faults else "")
    print(f"{len(genuine)} genuine callbacks, {len(wanted)} Lambda events, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
