"""A callback server of the shape that Alibaba Cloud publishes for Python: the standard library's HTTP server, one request after the
other, every callback verified by OpenSSL, nothing stored. The published one fetches the key anew for each callback and is
written for Python 2 with M2Crypto; this one reads the key from a file, which costs far less, and uses `cryptography`.

    python3 server.py KEYFILE
"""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import MD5
from cryptography.hazmat.primitives.serialization import load_pem_public_key

KEY_FILE = Path(sys.argv[1])


class Callback(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        key_url = base64.b64decode(self.headers["x-oss-pub-key-url"]).decode()
        if not key_url.startswith(("http://", "https://")):
            self.answer(400, {"Status": "not a key of OSS"})
            return
        key = load_pem_public_key(KEY_FILE.read_bytes())
        signature = base64.b64decode(self.headers["authorization"])
        body = self.rfile.read(int(self.headers["content-length"]))
        path, mark, query = self.path.partition("?")
        signed = (unquote(path) + mark + query + "\n").encode() + body
        try:
            key.verify(signature, signed, PKCS1v15(), MD5())
        except InvalidSignature:
            self.answer(400, {"Status": "verify not ok"})
            return
        self.answer(200, {"Status": "OK"})

    def answer(self, status: int, answer: dict[str, str]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class Server(HTTPServer):
    request_queue_size = 256  # connections that come at once and are yet to be accepted


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Callback)
    print(json.dumps({"event": "ready", "listen": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    server.serve_forever()
