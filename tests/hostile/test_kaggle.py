"""Answers of Kaggle, or of a proxy instead of Kaggle, that cannot be used."""

import gzip
import json
import random
from pathlib import Path

import pytest

from stages.images.sources import transfer
from tests.hostile.bounds import accepted
from tests.images.conftest import SMALL, Start, get, start, waits  # noqa: F401

JSON, HTML = {"Content-Type": "application/json"}, {"Content-Type": "text/html"}
DATASET = {"currentVersionNumber": 1, "licenseName": "CC0-1.0", "title": "Creatures"}
JUNK = ["text", -1, [], {}, None, True, 1e300, "9" * 5000, [[]], {"a": 1}]
BODIES: dict[str, tuple[dict, bytes]] = {
    "login page": (HTML, b"<html>Sign in to the network</html>"),
    "login page as json": (JSON, b"<html>"),
    "empty": (JSON, b""),
    "no type": ({}, b"{}"),
    "cut": (JSON, b'{"currentVersionNumber": 1'),
    "list": (JSON, b"[]"),
    "number": (JSON, b"1"),
    "null": (JSON, b"null"),
    "deep": (JSON, b"[" * 100_000),
    "no gzip": (JSON | {"Content-Encoding": "gzip"}, b"{}"),
    "cut gzip": (JSON | {"Content-Encoding": "gzip"}, gzip.compress(b"{}" * 99)[:-9]),
    "no deflate": (JSON | {"Content-Encoding": "deflate"}, b"{}"),
    "latin 1": (JSON, b'{"title": "\xe9"}'),
    "no code": (JSON, b'{"code": "x"}'),
    "error": (JSON, b'{"code": 400}'),
    "surrogate": (JSON, b'{"licenseName": "\\ud800"}'),
}
ENDPOINTS = ("IntrospectToken", "GetDataset", "DownloadDataset")
CASES = {f"{name} for {endpoint}": (endpoint, *body) for name, body in BODIES.items() for endpoint in ENDPOINTS}
CASES |= {
    f"field {seed}": ("GetDataset", JSON, json.dumps(DATASET | {
        random.Random(seed).choice(sorted(DATASET)): random.Random(-seed).choice(JUNK)}).encode())
    for seed in range(30)
}  # fmt: skip
CASES |= {
    "endless": ("GET", {"Content-Length": "9" * 30}, b"x"),
    "length of text": ("GET", {"Content-Length": "x"}, b"x"),
    "no length": ("GET", {}, bytes(2 << 20)),
}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "ANSWER_S", 0.5)
    monkeypatch.setattr(transfer, "GRACE_S", 0.5)
    monkeypatch.setattr(transfer, "TIMEOUT_S", (1, 2))


def fetch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    return accepted(lambda: get(folder, max_gib=2**-10))


@pytest.mark.parametrize("name", CASES)
def test_answer_is_refused_or_used(name: str, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    endpoint, headers, body = CASES[name]
    start(raw={endpoint: (200, headers, body)})
    fetch(tmp_path, monkeypatch)
    for receipt in tmp_path.glob("receipt.json"):
        receipt.read_text(encoding="utf-8")


@pytest.mark.parametrize("endpoint", [*ENDPOINTS, "GET"])
@pytest.mark.parametrize("byte_s", [0.2, 20])
def test_slow_answer_ends(start: Start, endpoint: str, byte_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    start(raw={endpoint: (200, JSON, b" " * 1000)}, byte_s=byte_s)
    assert not fetch(tmp_path, monkeypatch) or endpoint == "IntrospectToken"  # then the client does without a name


def test_size_is_limited_on_the_way(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    start(raw={"GET": (200, {}, bytes(4 << 20))})
    assert not fetch(tmp_path, monkeypatch)
    assert max(path.stat().st_size for path in tmp_path.rglob("*.zip")) <= (1 << 20) + (1 << 18)
