"""The pipeline as a user runs it: real DVC, real git and every stage, on a tiny model."""

import json
from pathlib import Path

import pytest

from tests import project
from tests.slow import slow

ALL = ["download", "filter", "curate", "train", "render", "evaluate", "report"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once and committed. Every test restores its params."""
    folder = project.create(tmp_path_factory.mktemp("pipeline") / "project")
    assert project.repro(folder) == ALL
    project.commit(folder, "run")
    return folder


def test_second_run_does_nothing(repository: Path):
    assert project.repro(repository) == []
    assert project.git(repository, "status", "--porcelain") == ""


def test_every_section_affects_its_stages_and_runtime_affects_none(repository: Path):
    changes = {
        "dataset": {"source": "starter"},
        "filter": {"min_side_px": 32},
        "curate": {"count": 2},
        "model": {"variant": "fp16"},
        "concept": {"vectors": 2},
        "train": {"learning_rate": 2e-2},
        "render": {"guidance_scale": 3.0},
        "evaluate": {"clip": "./starter/clip"},
        "report": {"title": "Another"},
        "runtime": {"micro_batch": 1, "deterministic": False},
    }
    project.change(repository, **changes)
    status = json.loads(project.run(repository, "dvc", "status", "--json"))
    project.change(repository)
    changed = {
        stage: {key.partition(".")[0] for item in items for key in item.get("changed deps", {}).get("params.yaml", {})}
        for stage, items in status.items()
    }
    assert changed == {
        "download": {"dataset"},
        "filter": {"filter"},
        "curate": {"curate"},
        "train": {"model", "concept", "train"},
        "render": {"model", "concept", "render"},
        "evaluate": {"evaluate"},
        "report": changes.keys() - {"runtime"},
    }


@pytest.mark.slow
def test_param_reruns_what_it_affects_and_setting_it_back_runs_nothing(repository: Path):
    before = project.hashes(repository)
    project.change(repository, render={"guidance_scale": 3.0})
    assert project.repro(repository) == ["render", "evaluate", "report"]
    project.change(repository)
    assert project.repro(repository) == []
    assert project.hashes(repository) == before


def share(repository: Path) -> None:
    """Add a default remote, as the README says, and push everything to it."""
    project.run(repository, "dvc", "remote", "add", "-f", "-d", "storage", str(repository.parent / "storage"))
    if project.git(repository, "status", "--porcelain"):
        project.commit(repository, "share")
    project.run(repository, "dvc", "push", "-q", "--run-cache")


@pytest.mark.slow
def test_second_clone_pulls_runs_nothing_and_repeats_every_hash(repository: Path, tmp_path: Path):
    share(repository)
    clone = tmp_path / "clone"
    project.git(repository, "clone", "-q", str(repository), str(clone))
    project.run(clone, "dvc", "pull", "-q", "--run-cache")
    assert project.repro(clone) == []
    for path in project.hashes(repository):
        assert project.content(clone / path) == project.content(repository / path), path
    assert project.repro(clone, "-f", "--no-run-cache") == ALL
    assert project.hashes(clone) == project.hashes(repository)


def test_clone_has_the_metrics_without_pulling_and_artifacts_get_the_embedding(repository: Path, tmp_path: Path):
    clone = tmp_path / "clone"
    project.git(repository, "clone", "-q", str(repository), str(clone))
    assert "validation_loss_relative" in project.run(clone, "dvc", "metrics", "show")
    assert not (clone / "data" / "embedding").exists()
    share(repository)
    project.git(repository, "tag", "-a", "embedding@v1.0.0", "-m", "First version")  # what `gto register` does
    project.run(tmp_path, "dvc", "artifacts", "get", str(repository), "embedding", "-o", "embedding.safetensors")
    original = repository / "data" / "embedding" / "learned_embeds.safetensors"
    assert (tmp_path / "embedding.safetensors").read_bytes() == original.read_bytes()


def test_reworded_message_in_common_reruns_nothing(repository: Path):
    for name in ("stage.py", "params.py", "locks.py"):
        path = repository / "stages" / "common" / name
        path.write_text(path.read_text() + "\n# reworded\n")
    assert project.repro(repository) == []
    project.git(repository, "checkout", "-q", "stages")


def test_metrics_plots_and_experiments_have_content(repository: Path):
    assert "validation_loss_relative" in project.run(repository, "dvc", "metrics", "show")
    page = project.run(repository, "dvc", "plots", "show", "-o", ".scratch/plots")
    assert "index.html" in page
    html = (repository / ".scratch" / "plots" / "index.html").read_text()
    assert "relative" in html
    assert {"contact_sheet.png", "grid.png"} <= {
        p.name.split("data_")[-1] for p in (repository / ".scratch").rglob("*.png")
    }
    assert "learning_rate" in project.run(repository, "dvc", "exp", "show", "--csv")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"filter": {"min_sid_px": 1}}, ("filter.min_sid_px", "min_side_px", "allowed")),
        ({"dataset": {"path": "nowhere"}}, ("dataset.path nowhere", "not there")),
        ({"filter": {"class": "Criter"}}, ("Criter?", "Critter has 8 images", "filter.class")),
        slow({"curate": {"include": ["8.png"]}}, ("curate.include", "'8.png'", "matches no image")),
        slow({"curate": {"count": 30}}, ("count", "30", "8")),
    ],
    ids=["unknown key", "path", "class", "include", "count"],
)
def test_invalid_params_are_one_line(repository: Path, sections: dict, words: tuple[str, ...]):
    before = project.hashes(repository)
    project.change(repository, **sections)
    printed = project.run(repository, "dvc", "repro", ok=False)
    project.change(repository)
    assert "Traceback" not in printed
    assert all(word in printed for word in words), printed
    assert project.hashes(repository) == before


def test_nothing_is_lost_by_invalid_params(repository: Path):
    """The last test: the project, in which commands with invalid params have failed, is up to date."""
    assert project.repro(repository) == []
