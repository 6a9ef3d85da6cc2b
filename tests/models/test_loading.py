"""A model on the hub is resolved to a commit, and everything that is loaded afterwards is of that commit."""

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from stages import UserError
from stages.models.families import family
from stages.models.hub import resolve
from stages.models.params import Model

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Replace the download by a cache folder as the hub client lays it out, with a branch that can move."""
    branches = {"main": OLD}

    def download(repo: str, file: str, revision: str | None = None) -> str:
        commit = branches.get(revision or "main", revision)
        path = tmp_path / "models--someone--model" / "snapshots" / commit / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"_class_name": "StableDiffusionPipeline"}')
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return branches


def test_branch_is_resolved_to_its_commit_once(hub: dict[str, str]):
    model = resolve(Model(base="someone/model"))
    assert model.revision == OLD
    hub["main"] = NEW
    assert resolve(model).revision == OLD
    assert resolve(Model(base="someone/model")).revision == NEW
    assert resolve(Model(base="someone/model", revision=OLD)).revision == OLD
    assert family(model) == "StableDiffusionPipeline"


def test_local_folder_is_not_resolved(folder: Path):
    model = Model(base=str(folder))
    assert resolve(model) is model


def test_missing_network_is_reported(monkeypatch: pytest.MonkeyPatch):
    def download(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match=r"someone/model cannot be downloaded .*check `model.base`"):
        resolve(Model(base="someone/model"))
