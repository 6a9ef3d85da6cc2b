"""A Kaggle of our own on this machine: what the real client asks for, with faults on demand.

The real client talks to it with KAGGLE_API_ENVIRONMENT=LOCALHOST (it then means http://localhost) and http_proxy set to
the server's port, so that whatever it asks of whatever host comes here.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

STORE = "http://storage.invalid/archive.zip"


@dataclass
class Kaggle:
    """What the server holds, what it does wrong, and what it was asked."""

    archives: dict[int, bytes]
    owner: str = "someone"
    slug: str = "creatures"
    token: str | None = None  # none: the set is public
    cuts: list[int] = field(default_factory=list)  # each download request breaks after that many bytes of its body
    refuse: dict[str, list[tuple[int, dict]]] = field(
        default_factory=dict
    )  # endpoint => (status, headers) of next answers
    delay_s: float = 0.0  # before each piece of 64 KiB
    claim: int | None = None  # length to lie about
    replace: dict[int, bytes] = field(default_factory=dict)  # after so many downloads the archive is another
    ignore_if_range: bool = False
    asked: list[tuple[str, dict]] = field(default_factory=list)
    served: int = 0  # bytes of archives sent
    downloads: int = 0

    @property
    def newest(self) -> int:
        return max(self.archives)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kaggle: Kaggle

    def log_message(self, *_: object) -> None:
        """Silence: a test reads `asked`."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        endpoint = urlsplit(self.path).path.rpartition("/")[2]
        self.kaggle.asked.append((endpoint, {**body, "authorization": self.headers.get("Authorization")}))
        answer = getattr(self, f"_{endpoint}", None)
        if self._refused(endpoint):
            return
        if answer is None:
            self._json(404, {"code": 404, "message": f"no {endpoint}"})
        else:
            answer(body)

    def do_GET(self) -> None:
        self.kaggle.asked.append(("GET", {name.lower(): value for name, value in self.headers.items()}))
        if self._refused("GET"):
            return
        number = int(urlsplit(self.path).query.removeprefix("version="))
        self._archive(number)

    def _refused(self, endpoint: str) -> bool:
        waiting = self.kaggle.refuse.get(endpoint)
        if not waiting:
            return False
        status, headers = waiting.pop(0)
        self._json(status, {"code": status, "message": f"told to say {status}"}, headers)
        return True

    def _json(self, status: int, value: dict, headers: dict | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (
            {"Content-Type": "application/json", "Content-Length": len(content)} | (headers or {})
        ).items():
            self.send_header(name, str(text))
        self.end_headers()
        self.wfile.write(content)

    def _known(self, body: dict) -> bool:
        if self.kaggle.token and self.headers.get("Authorization") != f"Bearer {self.kaggle.token}":
            self._json(403, {"code": 403, "message": "Permission denied"})
            return False
        if (body.get("ownerSlug"), body.get("datasetSlug")) != (self.kaggle.owner, self.kaggle.slug):
            self._json(404, {"code": 404, "message": "Not found"})
            return False
        return True

    def _IntrospectToken(self, body: dict) -> None:  # noqa: N802 - the endpoint's name
        good = body.get("token") == self.kaggle.token
        self._json(200, {"active": True, "username": "someone"} if good else {"active": False})

    def _GetDataset(self, body: dict) -> None:  # noqa: N802
        if self._known(body):
            about = {"currentVersionNumber": self.kaggle.newest, "licenseName": "CC0-1.0", "title": "Creatures"}
            self._json(200, {"ref": f"{self.kaggle.owner}/{self.kaggle.slug}", **about})

    def _GetDatasetMetadata(self, body: dict) -> None:  # noqa: N802
        if self._known(body):
            self._json(200, {"info": {"licenses": [{"name": "CC0-1.0"}]}})

    def _DownloadDataset(self, body: dict) -> None:  # noqa: N802
        if not self._known(body):
            return
        number = body.get("datasetVersionNumber") or self.kaggle.newest
        if number not in self.kaggle.archives:
            self._json(404, {"code": 404, "message": "Not found"})
            return
        self.send_response(302)
        self.send_header("Location", f"{STORE}?version={number}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _archive(self, number: int) -> None:
        kaggle = self.kaggle
        ranged = self.headers.get("Range")
        real = self.headers.get("Accept-Encoding") == "identity"  # else the client looks for the address
        if real:
            kaggle.downloads += 1
            if kaggle.downloads - 1 in kaggle.replace:
                kaggle.archives[number] = kaggle.replace[kaggle.downloads - 1]
        content = kaggle.archives[number]
        etag = f'"{hash(content) & 0xFFFFFFFF:x}"'
        start = int(ranged.removeprefix("bytes=").removesuffix("-")) if ranged else 0
        if self.headers.get("If-Range", etag) != etag and not kaggle.ignore_if_range:
            start = 0
        if start >= len(content) and start:
            self._json(416, {"code": 416, "message": "range"}, {"Content-Range": f"bytes */{len(content)}"})
            return
        total = kaggle.claim or len(content)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        for name, text in {
            "Content-Type": "application/zip",
            "Content-Length": total - start,
            "Accept-Ranges": "bytes",
            "ETag": etag,
            "Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT",
        }.items():
            self.send_header(name, str(text))
        self.end_headers()
        self._body(content[start:], kaggle.cuts.pop(0) if kaggle.cuts and real else None)

    def _body(self, content: bytes, cut: int | None) -> None:
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(content), 1 << 16):
                piece = content[at : at + (1 << 16)]
                if cut is not None:
                    piece = piece[: max(cut - at, 0)]
                time.sleep(self.kaggle.delay_s)
                self.wfile.write(piece)
                self.kaggle.served += len(piece)
                if cut is not None and at + (1 << 16) >= cut:
                    break
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Silence: a client that goes away is what the tests are about."""


@contextlib.contextmanager
def serve(kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch, home: str) -> Iterator[Kaggle]:
    """`kaggle` on a free port, this process's environment such that the real client finds it, and no credentials."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"kaggle": kaggle}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    for name in (
        "KAGGLE_API_TOKEN",
        "KAGGLE_USERNAME",
        "KAGGLE_KEY",
        "no_proxy",
        "NO_PROXY",
        "HTTP_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "KAGGLE_CONFIG_DIR": f"{home}/.kaggle",
        "HOME": home,
        "http_proxy": f"http://127.0.0.1:{server.server_port}",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        yield kaggle
    finally:
        server.shutdown()
        server.server_close()
