"""Downloads that are cut, changed, slow, or too large for the disk."""

import hashlib
import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stages import UserError
from stages import download as stage
from stages.common.read_outs import read_json
from stages.images.sources import transfer
from tests import project
from tests.images.archives import archive
from tests.images.conftest import SMALL, Start, get
from tests.images.loopback import STORE

NO_CONNECTION = r"^no connection to the server .*run again to resume"


def download(folder: Path, max_bytes: float = 2**30) -> bytes:
    """Download the archive from the local server; return the bytes that arrived."""
    location = (f"{STORE}?version=1", {"Accept-Encoding": "identity"})
    transfer.download(lambda: location, folder / "file.zip", "the server", {404: "look elsewhere"}, max_bytes)
    return (folder / "file.zip").read_bytes()


@pytest.mark.parametrize(
    "faults",
    [
        {"cuts": [0, 10, 0, 0, 0, 0, 70_000, 5]},
        {"cuts": np.random.default_rng().integers(0, 90_000, 4).tolist()},
        {"cuts": [30_000], "shift": 1000},
        {"cuts": [30_000, 40_000], "refuse": {"GET": [None, (503, {}), (429, {}), None, (500, {})]}},
        {"claim": len(SMALL) + 1000},
    ],
    ids=["cuts", "random cuts", "wrong range", "error page", "wrong length"],
)
def test_faults_do_not_change_the_bytes(start: Start, tmp_path: Path, faults: dict):
    start(**faults)
    assert download(tmp_path) == SMALL, faults


def test_stopped_download_is_resumed_in_the_next_run(start: Start, tmp_path: Path, waits: list[float]):
    kaggle = start(cuts=[30_000, *[0] * 5])
    with pytest.raises(UserError, match=NO_CONNECTION):
        download(tmp_path)
    assert waits == [1, 2, 4, 8, 16]
    assert download(tmp_path) == download(tmp_path) == SMALL
    assert kaggle.values("GET", "range")[6:] == ["bytes=30000-", f"bytes={len(SMALL)}-"]


@pytest.mark.parametrize("other", [archive(3, 60, seed=1), SMALL[:-30_000], bytes(len(SMALL))])
@pytest.mark.parametrize("ignore_if_range", [False, True])
@pytest.mark.parametrize("next_run", [False, True])
def test_versions_are_never_joined(start: Start, tmp_path: Path, other: bytes, ignore_if_range: bool, next_run: bool):
    cuts = [len(SMALL) - 10_000, *[0] * 5 * next_run]
    start(cuts=cuts, replace={len(cuts): other}, ignore_if_range=ignore_if_range)
    if next_run:
        with pytest.raises(UserError, match=NO_CONNECTION):
            download(tmp_path)
    assert download(tmp_path) == other


def test_file_that_changes_at_each_request(start: Start, tmp_path: Path):
    start(cuts=[30_000] * 20, replace={i: bytes([i]) * 200_000 for i in range(20)})
    with pytest.raises(UserError, match=NO_CONNECTION):
        download(tmp_path)


def test_long_wait_is_left_to_the_user(start: Start, tmp_path: Path, waits: list[float]):
    start(refuse={"GET": [(429, {"Retry-After": "7200"}), (404, {})]})
    with pytest.raises(UserError, match=r"^the server answers 429 \(.*\); wait 7200 s and run again"):
        download(tmp_path)
    with pytest.raises(UserError, match=r"^the server answers 404 \(.*\); look elsewhere"):
        download(tmp_path)
    assert waits == []


def test_no_network(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]):
    start()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^no connection to Kaggle .*http_proxy"):
        get(tmp_path)
    assert waits == []


@pytest.mark.parametrize(("timeout_s", "requests"), [(2, 1), (0.1, 4)], ids=["slow", "stalled"])
def test_slow_server(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout_s: float, requests: int):
    monkeypatch.setattr(transfer, "TIMEOUT_S", (15, timeout_s))
    kaggle = start(delay_s=0.5)
    assert download(tmp_path) == SMALL
    assert kaggle.downloads == requests


def test_announced_size_is_compared_with_the_disk(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    start()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"needs .* free space; make room"):
        download(tmp_path)


def test_failed_write_is_resumed_in_the_next_run(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A limit on the size of files stops a write halfway, as a full disk does."""
    kaggle = start()
    params = {"dataset": {"source": "kaggle", "kaggle": {"dataset": "someone/creatures"}}}
    project.write_params(tmp_path, project.SMALL | params)
    monkeypatch.chdir(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(SystemExit, match=r"^download: File too large: .scratch/download; free some space"):
            stage.main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    stage.main()
    assert kaggle.values("GET", "range")[-1] == "bytes=100000-"
    assert read_json(Path("data/raw.json"), "download")["sha256"] == hashlib.sha256(SMALL).hexdigest()
