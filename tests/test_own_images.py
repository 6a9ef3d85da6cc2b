"""A person's files survive whatever is run: images beside those of download, changed sources, captions. Real DVC."""

import shutil
from pathlib import Path

import pytest

from tests import project
from tests.slow import slow


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which download has run."""
    folder = project.create(tmp_path_factory.mktemp("own") / "project")
    assert project.repro(folder, "download") == ["download"]
    return folder


@pytest.mark.parametrize(
    ("dataset", "command"),
    [
        ({"path": "data/raw"}, ["repro"]),
        ({"path": "data/raw"}, ["repro", "-f"]),
        ({"path": "data"}, ["repro", "-s", "-f", "download"]),
        ({"path": "."}, ["repro", "train"]),
        ({"path": "data/raw/Mine"}, ["repro", "--pull"]),
        ({"source": "starter"}, ["repro"]),
        ({}, ["repro"]),
    ],
    ids=lambda values: " ".join(map(str, values)) or "unchanged",
)
def test_images_in_data_raw_survive_and_are_named(downloaded: Path, dataset: dict, command: list[str]):
    project.change(downloaded, dataset=dataset)
    mine = downloaded / "data" / "raw" / "Mine" / "cat.png"
    mine.parent.mkdir()
    shutil.copy(downloaded / "images" / "Critter" / "0.png", mine)
    printed = project.run(downloaded, "dvc", *command, ok=False)
    content = mine.read_bytes()
    shutil.rmtree(mine.parent)
    project.change(downloaded)
    assert content == (downloaded / "images" / "Critter" / "0.png").read_bytes()
    assert "download did not write data/raw/Mine/cat.png, and would delete" in printed
    assert "Traceback" not in printed


def test_images_in_data_raw_survive_before_the_first_run(tmp_path: Path):
    """The natural mistake: a clone, its own images in data/raw, and `dataset.path` set to that folder."""
    folder = project.create(tmp_path / "project")
    shutil.copytree(folder / "images", folder / "data" / "raw")
    project.change(folder, dataset={"path": "data/raw"})
    assert "download did not write data/raw/Critter/0.png" in project.run(folder, "dvc", "repro", ok=False)
    assert len(list((folder / "data" / "raw" / "Critter").iterdir())) == 8


@pytest.mark.parametrize("path", [slow("data/raw"), slow("data"), ".", "data/raw/Critter"])
def test_source_that_overlaps_data_raw_is_refused(downloaded: Path, path: str):
    project.change(downloaded, dataset={"path": path})
    assert "overlaps data/raw" in project.run(downloaded, "dvc", "repro", "download", ok=False)
    project.change(downloaded)
    assert len(list((downloaded / "data" / "raw" / "Critter").iterdir())) == 8


def test_download_leaves_the_cache_intact_when_data_raw_is_linked_to_it(tmp_path: Path):
    folder = project.create(tmp_path / "project")
    project.run(folder, "dvc", "config", "cache.type", "hardlink,symlink")
    project.repro(folder, "download")
    project.draw_images(folder / "images" / "Dog", 3)
    assert project.repro(folder, "-f", "download") == ["download"]
    shutil.rmtree(folder / "data" / "raw")
    project.run(folder, "dvc", "checkout", "data/raw")
    for path in (folder / "images").rglob("*.png"):
        assert (folder / "data" / "raw" / path.relative_to(folder / "images")).read_bytes() == path.read_bytes()


def watch(folder: Path, ok: bool) -> str:
    """Compare the source with what download has read, as `make run` does."""
    return project.run(folder, "python", "-m", "stages.common.watch", ok=ok)


def test_changed_source_is_noticed_and_downloaded_again(tmp_path: Path):
    folder = project.create(tmp_path / "project")
    assert "nothing outside of the project to compare" in watch(folder, ok=True)
    project.repro(folder, "download")
    assert "images has not changed" in watch(folder, ok=True)
    image = folder / "images" / "Critter" / "0.png"
    image.write_bytes(image.read_bytes() + b"more")
    assert "images has changed since download read it" in watch(folder, ok=False)
    assert project.repro(folder, "-s", "-f", "download") == ["download"]
    assert (folder / "data" / "raw" / "Critter" / "0.png").read_bytes() == image.read_bytes()
    assert "images has not changed" in watch(folder, ok=True)
    project.change(folder, dataset={"source": "starter"})
    assert "nothing outside of the project to compare" in watch(folder, ok=True)


def test_make_compares_the_source_first():
    recipes = (project.ROOT / "Makefile").read_text()
    for target, command in {"run": "dvc repro", "dvc": "dvc $(ARGS)"}.items():
        lines = recipes.partition(f"\n{target}:")[2].splitlines()
        assert lines[1].strip() == "python -m stages.common.watch || dvc repro -s -f download"
        assert lines[2].strip() == command


def test_make_dvc_refuses_an_experiment_that_would_delete_images(downloaded: Path):
    project.change(downloaded)
    mine = downloaded / "data" / "raw" / "Mine.png"
    shutil.copy(downloaded / "images" / "Critter" / "0.png", mine)
    makefile = ["-f", str(project.ROOT / "Makefile"), "-o", ".venv/.set-up"]
    printed = project.run(downloaded, "make", *makefile, "dvc", "ARGS=exp run -S curate.count=2", ok=False)
    mine.unlink()  # it exists
    assert "download did not write data/raw/Mine.png" in printed
    assert "Reproducing experiment" not in printed


@pytest.mark.slow
def test_captions_beside_the_source_images_reach_the_curated_images(tmp_path: Path):
    folder = project.create(tmp_path / "project")
    for i in range(8):
        (folder / "images" / "Critter" / f"{i}.txt").write_text(f"{{}} number {i}", encoding="utf-8-sig")
    project.run(folder, "dvc", "repro", "curate")
    assert "8 images of 1 classes and 8 captions" in project.run(folder, "dvc", "repro", "-s", "-f", "download")
    rows = (folder / "data" / "manifest.csv").read_text().splitlines()
    assert len(rows) == 1 + 8
    index = project.YAML(typ="safe").load((folder / "data" / "curated" / "index.json").read_text())
    for row in index["train"] + index["holdout"]:
        number = Path(row["source"]).stem
        assert (folder / "data" / "curated" / row["file"]).with_suffix(".txt").read_text() == f"{{}} number {number}"
