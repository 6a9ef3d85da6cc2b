"""Kaggle's client and our transfer against a local server."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from stages import UserError
from stages.common.files import write_json
from tests.images.archives import archive, drawn
from tests.images.conftest import SMALL, Start, get

SMALL_SHA256 = hashlib.sha256(SMALL).hexdigest()


def test_dataset_arrives_through_five_random_cuts(start: Start, tmp_path: Path):
    classes = ["Emberwing", "Mossback", "Tidefin"]
    content = drawn(classes, tmp_path / "drawn")
    cuts = np.random.default_rng().integers(1, len(content) // 6, 5).tolist()
    kaggle = start(archives={1: content}, cuts=list(cuts))
    receipt = get(tmp_path)
    assert receipt["sha256"] == hashlib.sha256(content).hexdigest(), f"cut after {cuts}"
    assert kaggle.values("GET", "range")[1::2] == [None, *(f"bytes={sum(cuts[: i + 1])}-" for i in range(5))]
    values = [receipt[key] for key in ("source", "name", "version", "licence", "title", "files")]
    assert values == ["kaggle", "someone/creatures", 1, "CC0-1.0", "Creatures", 156]
    assert (receipt["classes"], receipt["left_out"]) == (dict.fromkeys(classes, 52), {"equal content": 156})
    for path in (tmp_path / "drawn").glob("*/*"):
        assert (tmp_path / "raw" / path.parent.name / path.name).read_bytes() == path.read_bytes()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("endpoint", ["GetDataset", "DownloadDataset", "GET"])
@pytest.mark.parametrize(
    ("status", "advice"), [(401, "KAGGLE_API_TOKEN"), (403, "accept the rules"), (404, "compare dataset.kaggle")]
)
def test_refusal_is_not_repeated(start: Start, tmp_path: Path, endpoint: str, status: int, advice: str):
    kaggle = start(refuse={endpoint: [(status, {})] * 3})
    with pytest.raises(UserError, match=rf"^Kaggle answers {status} .*{advice}"):
        get(tmp_path)
    assert len(kaggle.refuse[endpoint]) == 2


@pytest.mark.parametrize("endpoint", ["GetDataset", "DownloadDataset", "GET"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_transient_status_is_repeated(start: Start, tmp_path: Path, waits: list[float], endpoint: str, status: int):
    kaggle = start(refuse={endpoint: [(status, {"Retry-After": "7"})] * 4})
    assert get(tmp_path)["files"] == 200
    kaggle.refuse[endpoint] = [(status, {"Retry-After": "soon"})] * 30
    with pytest.raises(UserError, match=rf"^Kaggle answers {status} .*run again"):
        get(tmp_path / "again")
    assert waits == [7, 7, 7, 7, 1, 2, 4, 8, 16]


def test_version_is_requested_by_number(start: Start, tmp_path: Path):
    kaggle = start(archives={1: SMALL, 2: archive(2, 5)})
    assert get(tmp_path / "newest")["version"] == 2
    receipt = get(tmp_path / "first", version=1)
    assert (receipt["version"], receipt["sha256"]) == (1, SMALL_SHA256)
    assert kaggle.values("DownloadDataset", "datasetVersionNumber") == [2, 1]
    assert set(kaggle.values("DownloadDataset", "ownerSlug")) == {"someone"}
    with pytest.raises(UserError, match="version is 9, but the newest is 2"):
        get(tmp_path / "none", version=9)


def test_damaged_archive_is_downloaded_again(start: Start, tmp_path: Path):
    kaggle = start(archives={1: SMALL[:-100]})
    with pytest.raises(UserError, match="someone/creatures is damaged"):
        get(tmp_path)
    assert list(tmp_path.rglob("*.zip")) == []
    kaggle.archives[1] = SMALL
    assert get(tmp_path)["sha256"] == SMALL_SHA256


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"KAGGLE_API_TOKEN": "secret"}, "Bearer secret"),
        ({"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "secret"}, "Basic bWU6c2VjcmV0"),
        ({"KAGGLE_CONFIG_DIR": "."}, "Basic bWU6ZmlsZWQtc2VjcmV0"),
        ({"HOME": "."}, None),
    ],
)
def test_credentials_are_sent_to_kaggle_only(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture, variables: dict, expected: str
):
    kaggle = start()
    write_json(tmp_path / ".kaggle" / "kaggle.json", {"username": "me", "key": "filed-secret"})
    (tmp_path / ".kaggle" / "kaggle.json").chmod(0o600)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        receipt = get(tmp_path)
    assert kaggle.values("DownloadDataset", "authorization") == [expected]
    assert set(kaggle.values("GET", "authorization")) == {None}
    output = "".join(capfd.readouterr())
    assert "secret" not in json.dumps(receipt) + output
    assert "kaggle auth login" not in output
