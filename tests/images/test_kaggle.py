"""The real Kaggle client against a Kaggle of our own: cut, changed, refused; always one sentence or the same bytes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stages import UserError
from stages.images.sources import kaggle as client
from starter.world.attributes import NAME
from tests.images.archives import archive, drawn
from tests.images.conftest import SMALL, Setup, get


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting, noted and not done: what costs time costs none here."""
    noted: list[float] = []
    download = client.download
    monkeypatch.setattr(client, "download", lambda *what: download(*what, sleep=noted.append))
    return noted


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "scratch").iterdir())


def test_a_set_comes_and_its_receipt_says_what(start: Setup, tmp_path: Path):
    start()
    receipt = get(tmp_path)
    assert receipt["classes"] == {f"Class{i:03d}": 50 for i in range(4)}
    assert receipt["left_out"] == {"equal content": 200}
    assert receipt["sha256"] == hashlib.sha256(SMALL).hexdigest()
    assert (receipt["version"], receipt["licence"], receipt["files"]) == (1, "CC0-1.0", 200)
    assert len(list((tmp_path / "raw" / "Class003").iterdir())) == 50
    assert left(tmp_path) == []


def test_ten_thousand_files_cut_at_five_places_come_whole(start: Setup, tmp_path: Path):
    content = archive(50, 100)
    cuts = np.random.default_rng(4).integers(1, len(content) // 6, 5).tolist()
    kaggle = start(archives={1: content}, cuts=list(cuts))
    receipt = get(tmp_path)
    assert kaggle.cuts == []
    assert receipt["sha256"] == hashlib.sha256(content).hexdigest()
    assert receipt["files"] == 5000
    assert receipt["left_out"] == {"equal content": 5000}
    assert [heard["range"] for kind, heard in kaggle.asked if kind == "GET" and "range" in heard] == [
        f"bytes={sum(cuts[: i + 1])}-" for i in range(5)
    ]


def test_a_drawn_set_cut_at_five_random_places_comes_whole(start: Setup, tmp_path: Path):
    content = drawn([NAME, "Tidefin", "Mossback"], tmp_path / "drawn")
    cuts = np.random.default_rng().integers(1, len(content) // 6, 5).tolist()
    kaggle = start(archives={1: content}, cuts=list(cuts))
    receipt = get(tmp_path)
    assert kaggle.cuts == [], f"cut after {cuts}"
    assert receipt["sha256"] == hashlib.sha256(content).hexdigest(), f"cut after {cuts}"
    assert receipt["classes"] == dict.fromkeys(sorted([NAME, "Tidefin", "Mossback"]), 52)
    assert receipt["left_out"] == {"equal content": 156}
    for path in (tmp_path / "drawn").glob("*/*"):
        assert (tmp_path / "raw" / path.parent.name / path.name).read_bytes() == path.read_bytes()


def test_a_killed_download_goes_on_in_the_next_run(start: Setup, tmp_path: Path):
    kaggle = start(cuts=[30_000, *[0] * 5])
    with pytest.raises(UserError, match=r"breaks off|cannot be reached"):
        get(tmp_path)
    assert left(tmp_path) == ["someone--creatures-1.zip", "someone--creatures-1.zip.json"]
    assert not (tmp_path / "raw").exists()
    kaggle.asked.clear()
    assert get(tmp_path)["sha256"] == hashlib.sha256(SMALL).hexdigest()
    assert [heard["range"] for kind, heard in kaggle.asked if "range" in heard] == ["bytes=30000-"]


@pytest.mark.parametrize("ignore_if_range", [False, True])
def test_a_file_that_changes_between_two_pieces_starts_anew(start: Setup, tmp_path: Path, ignore_if_range: bool):
    other = archive(3, 60, seed=1)
    start(cuts=[30_000], replace={1: other}, ignore_if_range=ignore_if_range)
    assert get(tmp_path)["sha256"] == hashlib.sha256(other).hexdigest()


def test_a_length_that_is_a_lie_is_no_success(start: Setup, tmp_path: Path):
    start(claim=len(SMALL) + 1000)
    with pytest.raises(UserError, match="run again to go on"):
        get(tmp_path)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("GetDataset", "401.*KAGGLE_API_TOKEN"),
        ("GetDataset", "403.*accept its rules"),
        ("GetDataset", "404.*compare dataset.kaggle"),
        ("DownloadDataset", "401.*KAGGLE_API_TOKEN"),
        ("DownloadDataset", "403.*accept its rules"),
        ("GET", "Kaggle has no someone/creatures.*404"),
    ],
)
def test_a_refusal_is_one_sentence_at_once(start: Setup, tmp_path: Path, slept: list[float], endpoint: str, words: str):
    status = int("".join(filter(str.isdigit, words)))
    start(refuse={endpoint: [(status, {})] * 3})
    with pytest.raises(UserError, match=words):
        get(tmp_path)
    assert slept == []


@pytest.mark.parametrize("endpoint", ["GetDataset", "GET"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_trouble_that_passes_is_waited_for_and_trouble_that_stays_is_said(
    start: Setup, tmp_path: Path, slept: list[float], endpoint: str, status: int
):
    kaggle = start(refuse={endpoint: [(status, {"Retry-After": "7"})] * 4})
    assert get(tmp_path)["files"] == 200
    assert set(slept) == {7.0}
    kaggle.refuse[endpoint] = [(status, {})] * 30
    with pytest.raises(UserError, match=rf"\({status}\)"):
        get(tmp_path)


def test_a_long_wait_is_not_sat_out(start: Setup, tmp_path: Path):
    start(refuse={"GetDataset": [(429, {"Retry-After": "7200"})]})
    with pytest.raises(UserError, match="120 minutes"):
        get(tmp_path)


def test_no_network_is_one_sentence(start: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    start()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be reached"):
        get(tmp_path)


def test_no_space_is_one_sentence(start: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    start()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(UserError, match="make room"):
        get(tmp_path)


def test_a_version_is_asked_for_by_number_and_recorded(start: Setup, tmp_path: Path):
    kaggle = start(archives={1: SMALL, 2: archive(2, 5)})
    assert get(tmp_path)["version"] == 2
    assert ("DownloadDataset", 2) in [(kind, heard.get("datasetVersionNumber")) for kind, heard in kaggle.asked]
    receipt = _again(tmp_path, version=1)
    assert (receipt["version"], receipt["sha256"]) == (1, hashlib.sha256(SMALL).hexdigest())
    with pytest.raises(UserError, match="the newest of someone/creatures is 2"):
        _again(tmp_path, version=9)


def _again(tmp_path: Path, **kaggle: object) -> dict:
    folder = tmp_path / f"again{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    return get(folder, **kaggle)


def test_credentials_are_used_as_kaggle_documents_them_and_kept_out_of_what_is_written(
    start: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    kaggle = start(token="KGAT_secret")
    with pytest.raises(UserError, match=r"\(403\)"):
        get(tmp_path)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")
    receipt = get(tmp_path)
    store = [heard for kind, heard in kaggle.asked if kind == "GET"]
    assert store
    assert all("authorization" not in heard for heard in store), "the token went to another host"
    assert "secret" not in json.dumps(receipt) + "".join(capfd.readouterr())


def test_the_other_credentials(start: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kaggle = start()
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "mine")
    get(tmp_path)
    basic = {heard["authorization"] for kind, heard in kaggle.asked if kind == "DownloadDataset"}
    assert basic == {"Basic bWU6bWluZQ=="}
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(exist_ok=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": "me", "key": "filed"}))
    (folder / "kaggle.json").chmod(0o600)
    kaggle.asked.clear()
    _again(tmp_path)
    assert {heard["authorization"] for kind, heard in kaggle.asked if kind == "DownloadDataset"} == {
        "Basic bWU6ZmlsZWQ="
    }


def test_the_servers_manners_are_those_that_the_clients_own_command_expects(start: Setup, tmp_path: Path):
    start(token="KGAT_secret")
    command = [
        str(Path(sys.executable).parent / "kaggle"),
        "datasets",
        "download",
        "someone/creatures",
        "-p",
        str(tmp_path),
    ]
    done = subprocess.run(
        command, env={**os.environ, "KAGGLE_API_TOKEN": "KGAT_secret"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "creatures.zip").read_bytes() == SMALL
