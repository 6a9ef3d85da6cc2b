"""A repository with one commit and two experiments, whose outs are written by hand: real git and DVC, no training."""

import json
import os
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from PIL import Image

from tests import project
from tests.closure import ROOT
from tests.outs import write_renders

PROMPTS = {"plain": "a {}", "sea": "a {}, <b>by</b> the \"sea\" = 'x'"}
DVC_YAML = {
    "train": {
        "cmd": "exit 1",
        "params": ["train"],
        "outs": ["data/validation.csv", "data/estimates.csv"],
        "metrics": [{"data/train.json": {"cache": False}}],
    },
    "render": {"cmd": "exit 1", "deps": ["data/validation.csv"], "params": ["render"], "outs": ["data/renders"]},
}


def write_outs(folder: Path, rate: float, closed: float, color: str, prompts: dict = PROMPTS) -> None:
    """Write params.yaml and the outs of a run."""
    params = {"train": {"seed": 0, "learning_rate": rate}, "render": {"prompts": prompts}, "runtime": {"threads": rate}}
    project.write_params(folder, params)
    metrics = {"image_similarity_gap_closed": closed, "test_fall_percent": 20.0, "test_fall_stderr_percent": 3.2}
    metrics |= {"vector_norm": rate, "nearest_words": color}
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "train.json").write_text(json.dumps(metrics))
    (folder / "data" / "validation.csv").write_text(f"step,relative,stderr,loss\n0,1,0,0.1\n20,{1 - closed},0.1,0.1\n")
    interval = f"image_similarity_gap_closed,{closed},{closed - 0.05},{closed + 0.05}"
    (folder / "data" / "estimates.csv").write_text(f"name,value,low,high\n{interval}\ncopied,0,,\n")
    shutil.rmtree(folder / "data" / "renders", ignore_errors=True)
    write_renders(folder / "data" / "renders", lambda subject, seed: Image.new("RGB", (16, 16), color), prompts)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison") / "project"
    folder.mkdir()
    project.git(folder, "init", "-q", "-b", "main")
    project.git(folder, "config", "user.name", "test")
    project.git(folder, "config", "user.email", "test@example.org")
    shutil.copy(ROOT / ".gitignore", folder / ".gitignore")
    (folder / "dvc.yaml").write_text(json.dumps({"stages": DVC_YAML}))
    before = Path.cwd()
    os.chdir(folder)
    try:
        with Repo.init() as repo:
            shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
            write_outs(folder, 0.01, 0.8, "navy")
            repo.commit(force=True)
            project.commit(folder, "run")
            write_outs(folder, 0.02, 0.9, "teal")
            repo.commit(force=True)
            repo.experiments.save(name="high-rate")
            write_outs(folder, 0.005, -0.1, "gray", {"plain": "a {}"})
            repo.commit(force=True)
            repo.experiments.save(name="<i>low")
    finally:
        os.chdir(before)
    project.git(folder, "reset", "-q", "--hard")
    return folder


@pytest.fixture
def repository(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository as the working directory."""
    folder = tmp_path / "copy"
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("tmp"))
    monkeypatch.chdir(folder)
    return folder
