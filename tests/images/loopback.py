"""A local server that answers Kaggle's client as Kaggle does, with faults.

With KAGGLE_API_ENVIRONMENT=LOCALHOST the client requests http://localhost, and http_proxy sends all requests here.
"""

import contextlib
import json
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

STORE = "http://storage.invalid/archive.zip"
CLEARED = "KAGGLE_API_TOKEN KAGGLE_USERNAME KAGGLE_KEY no_proxy NO_PROXY HTTP_PROXY ALL_PROXY all_proxy"


@dataclass
class Kaggle:
    """The versions of an archive, the faults, and the requests that came."""

    archives: dict[int, bytes]
    cuts: list[int] = field(default_factory=list)  # the body of each download ends after so many bytes
    refuse: dict[str, list[tuple[int, dict] | None]] = field(default_factory=dict)  # (status, headers) by endpoint
    replace: dict[int, bytes] = field(default_factory=dict)  # the archive from a download on
    raw: dict[str, tuple[int, dict, bytes]] = field(default_factory=dict)  # (status, headers, body) by endpoint
    byte_s: float = 0.0  # before each byte of a raw body
    ignore_if_range: bool = False
    shift: int = 0  # ranges are so many bytes too early
    claim: int | None = None  # a wrong length
    delay_s: float = 0.0  # after each piece of 64 KiB
    downloads: int = 0
    requests: list[tuple[str, dict]] = field(default_factory=list)

    def values(self, endpoint: str, key: str) -> list:
        """Return the values of a key or header in the requests for an endpoint."""
        return [values.get(key) for name, values in self.requests if name == endpoint]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kaggle: Kaggle

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        endpoint, newest = urlsplit(self.path).path.rpartition("/")[2], max(self.kaggle.archives)
        answers = {
            "IntrospectToken": {"active": True, "username": "someone"},
            "GetDataset": {"currentVersionNumber": newest, "licenseName": "CC0-1.0", "title": "Creatures"},
        }
        location = {"Location": f"{STORE}?version={body.get('datasetVersionNumber') or newest}"}
        if not self._refused(endpoint, body):
            self._answer(200 if endpoint in answers else 302, answers.get(endpoint, {}), location)

    def do_GET(self) -> None:
        if not self._refused("GET", {}):
            self._archive(int(urlsplit(self.path).query.removeprefix("version=")))

    def _refused(self, endpoint: str, body: dict) -> bool:
        self.kaggle.requests.append((endpoint, {name.lower(): value for name, value in self.headers.items()} | body))
        refusals = self.kaggle.refuse.get(endpoint)
        refusal = refusals.pop(0) if refusals else None
        if refusal:
            self._answer(refusal[0], {"code": refusal[0], "message": "refused"}, refusal[1])
        raw = self.kaggle.raw.get(endpoint)
        if raw:
            self._head(*raw[:2])
            with contextlib.suppress(ConnectionError):
                for piece in (raw[2][i : i + 1] for i in range(len(raw[2]))) if self.kaggle.byte_s else (raw[2],):
                    time.sleep(self.kaggle.byte_s)
                    self.wfile.write(piece)
            self.close_connection = True
        return bool(refusal or raw)

    def _answer(self, status: int, body: dict, headers: dict) -> None:
        content = json.dumps(body).encode()
        self._head(status, {"Content-Type": "application/json", "Content-Length": len(content)} | headers)
        self.wfile.write(content)

    def _head(self, status: int, headers: dict) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def _archive(self, version: int) -> None:
        kaggle = self.kaggle
        is_download = self.headers.get("Accept-Encoding") == "identity"  # else the client looks for the address
        if is_download:
            kaggle.archives[version] = kaggle.replace.get(kaggle.downloads, kaggle.archives[version])
            kaggle.downloads += 1
        content = kaggle.archives[version]
        etag, total = f'"{zlib.crc32(content):x}"', kaggle.claim or len(content)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if not kaggle.ignore_if_range and self.headers.get("If-Range") != etag:
            start = 0
        if start >= len(content):
            self._answer(416, {}, {"Content-Range": f"bytes */{len(content)}"})
            return
        headers, shift = {"Content-Length": total - start, "ETag": etag}, kaggle.shift if start else 0
        if start:
            headers["Content-Range"] = f"bytes {start - shift}-{total - shift - 1}/{total}"
        self._head(206 if start else 200, headers)
        content = content[start - shift : len(content) - shift]
        content = content[: kaggle.cuts.pop(0) if kaggle.cuts and is_download else None]
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(content), 1 << 16):
                time.sleep(kaggle.delay_s if at else 0)
                self.wfile.write(content[at : at + (1 << 16)])
        self.close_connection = True


@contextlib.contextmanager
def serve(kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch, home: str) -> Iterator[Kaggle]:
    """Serve `kaggle` on a free port, with an environment in which the client finds it and no credentials."""
    for name in CLEARED.split():
        monkeypatch.delenv(name, raising=False)
    handler = type("Handler", (_Handler,), {"kaggle": kaggle})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        proxy = f"http://127.0.0.1:{server.server_port}"
        config = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "KAGGLE_CONFIG_DIR": f"{home}/.kaggle", "HOME": home}
        for name, value in (config | {"http_proxy": proxy}).items():
            monkeypatch.setenv(name, value)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield kaggle
        server.shutdown()
