"""The pipeline as a person meets it: real DVC, real git, every stage real, on a tiny model."""

import shutil
from pathlib import Path

import pytest

from tests import project

ALL = ["download", "filter", "curate", "train", "render", "evaluate", "report"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once and committed; each test leaves its params as it found them."""
    folder = project.make(tmp_path_factory.mktemp("home") / "project")
    assert project.repro(folder) == ALL
    project.commit(folder, "run")
    return folder


def test_nothing_runs_twice(home: Path):
    assert project.repro(home) == []
    assert project.git(home, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("sections", "first"),
    [
        ({"render": {"guidance_scale": 3.0}}, "render"),
        ({"train": {"learning_rate": 2e-2}}, "train"),
        ({"curate": {"count": 2}}, "curate"),
        ({"runtime": {"micro_batch": 1, "deterministic": False}}, None),
    ],
    ids=["render", "train", "curate", "runtime"],
)
def test_a_param_reruns_what_it_affects_and_setting_it_back_runs_nothing(home: Path, sections: dict, first: str | None):
    before = project.hashes(home)
    project.change(home, **sections)
    assert project.repro(home) == (ALL[ALL.index(first) :] if first else [])
    project.change(home)
    assert project.repro(home) == []
    assert project.hashes(home) == before


def test_forced_again_elsewhere_the_hashes_are_the_same(home: Path, tmp_path: Path):
    there = tmp_path / "elsewhere"
    shutil.copytree(home, there, ignore=shutil.ignore_patterns("cache", "tmp", ".scratch", ".storage"))
    assert project.repro(there, "-f", "--no-run-cache") == ALL
    assert project.hashes(there) == project.hashes(home)


def test_a_second_clone_pulls_and_runs_nothing_but_what_a_change_affects(home: Path, tmp_path: Path):
    project.run(home, "dvc", "push", "-q", "--run-cache")
    clone = tmp_path / "clone"
    project.git(home, "clone", "-q", str(home), str(clone))
    project.run(clone, "dvc", "remote", "modify", "--local", "storage", "url", str(home / ".storage"))
    project.run(clone, "dvc", "pull", "-q", "--run-cache")
    assert project.repro(clone) == []
    for path in project.hashes(home):
        assert _bytes(clone / path) == _bytes(home / path), path
    project.change(clone, evaluate={"clip": "./starter/clip"})
    assert project.repro(clone) == ["evaluate", "report"]


def test_metrics_plots_and_experiments_say_something(home: Path):
    assert "objective" in project.run(home, "dvc", "metrics", "show")
    page = project.run(home, "dvc", "plots", "show", "-o", ".scratch/plots")
    assert "index.html" in page
    html = (home / ".scratch" / "plots" / "index.html").read_text()
    assert "relative" in html
    assert {"contact_sheet.png", "grid.png"} <= {p.name.split("data_")[-1] for p in (home / ".scratch").rglob("*.png")}
    assert "learning_rate" in project.run(home, "dvc", "exp", "show", "--csv")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"train": {"lerning_rate": 1}}, ("train.lerning_rate", "learning_rate", "allowed")),
        ({"train": {"steps": 10, "lr_warmup_steps": 10}}, ("lr_warmup_steps (10)", "steps (10)")),
        ({"dataset": {"source": "kagle"}}, ("dataset.source", "'kagle'", "'kaggle'")),
        ({"dataset": {"path": "nowhere"}}, ("dataset.path nowhere", "not there")),
        ({"filter": {"class": "Criter"}}, ("Criter?", "Critter has 8 pictures", "filter.class")),
        ({"filter": {"min_sharpness": "much"}}, ("filter.min_sharpness", "'much'", "number")),
        ({"curate": {"resolution": 100}}, ("curate.resolution", "100", "multiple of 8")),
        ({"curate": {"include": ["8.png"]}}, ("curate.include", "'8.png'", "nearest name is")),
        ({"curate": {"count": 30}}, ("count", "30", "8")),
        ({"concept": {"placeholder_token": "dragon"}}, ("placeholder_token", "dragon", "knows")),
        ({"concept": {"initializer_token": "zebra"}}, ("initializer_token", "zebra", "tokens")),
    ],
    ids=[
        "unknown key",
        "warmup",
        "source",
        "path",
        "class",
        "threshold",
        "resolution",
        "include",
        "count",
        "known placeholder",
        "initializer of several tokens",
    ],
)
def test_wrong_params_are_one_sentence_and_lose_nothing(home: Path, sections: dict, words: tuple[str, ...]):
    before = project.hashes(home)
    project.change(home, **sections)
    printed = project.run(home, "dvc", "repro", ok=False)
    project.change(home)
    assert "Traceback" not in printed
    assert all(word in printed for word in words), printed
    assert project.repro(home) == []
    assert project.hashes(home) == before


def _bytes(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}
