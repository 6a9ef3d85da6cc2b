"""The stage as it runs, on renders whose figures are known beforehand."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from stages import evaluate
from tests.inversion.world import draw
from tests.project import SMALL, write_params
from tests.tiny import tiny_clip

PROMPTS = {"plain": "a {}", "night": "a {} at night"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the renders with the word are the held-out pictures, and those without are of one colour."""
    tiny_clip(tmp_path / "starter" / "clip")
    draw(tmp_path / "data" / "curated")
    holdout = sorted((tmp_path / "data" / "curated" / "holdout").glob("*.png"))
    cells = []
    for key, prompt in PROMPTS.items():
        (tmp_path / "data" / "renders" / key).mkdir(parents=True)
        for subject, written in (("word", "<critter>"), ("initializer", "dragon")):
            for seed, picture in enumerate(holdout):
                file = f"{key}/{subject}-{seed}.png"
                cells.append(
                    {"prompt": key, "subject": subject, "seed": seed, "file": file, "text": prompt.format(written)}
                )
                target = tmp_path / "data" / "renders" / file
                shutil.copy(picture, target) if subject == "word" else Image.new("RGB", (32, 32), "navy").save(target)
    index = {"subjects": {"word": "<critter>", "initializer": "dragon"}, "prompts": PROMPTS, "cells": cells}
    (tmp_path / "data" / "renders" / "index.json").write_text(json.dumps(index))
    configure(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(home: Path, **changed: object) -> None:
    write_params(home, SMALL | {"evaluate": SMALL["evaluate"] | changed, "runtime": {"threads": 1, "trackers": []}})


def figures(home: Path) -> dict[str, float]:
    evaluate.main()
    return json.loads((home / "data" / "metrics.json").read_text())


def copy_renders(home: Path, source: str, target: str) -> None:
    for file in (home / "data" / "renders").rglob(f"{source}-*.png"):
        shutil.copy(file, file.with_name(file.name.replace(source, target)))


def test_renders_that_are_real_pictures_are_as_near_as_those(home: Path):
    said = figures(home)
    assert said["image_similarity_word"] > said["image_similarity_initializer"]
    assert said["recovered_share"] > 0.9
    assert said["image_similarity_word.night"] == said["image_similarity_word.plain"] == said["image_similarity_word"]
    assert all(isinstance(value, float) for value in said.values())


def test_the_initializer_word_itself_recovers_nothing_and_keeps_all(home: Path):
    copy_renders(home, "initializer", "word")
    said = figures(home)
    assert said["recovered_share"] == said["recovered_share_stderr"] == 0.0
    assert said["image_similarity_word"] == said["image_similarity_initializer"]
    assert said["prompt_following_word"] == said["prompt_following_initializer"]
    assert said.get("prompt_following_kept", 1.0) == 1.0


def test_where_real_pictures_are_no_nearer_there_is_no_share(home: Path):
    copy_renders(home, "word", "initializer")
    holdout = sorted((home / "data" / "curated" / "holdout").glob("*.png"))
    for picture in (home / "data" / "curated" / "train").glob("*.png"):
        Image.new("RGB", (32, 32), "navy").save(picture)
    assert holdout
    assert "recovered_share" not in figures(home)


def test_the_table_has_a_row_a_render_that_averages_to_the_figures(home: Path):
    said = figures(home)
    rows = pd.read_csv(home / "data" / "scores.csv")
    assert list(rows.columns) == [
        *("prompt", "subject", "seed", "file"),
        *("image_similarity", "image_similarity_train", "prompt_following"),
    ]
    assert len(rows) == 8
    means = rows.groupby("subject")[["image_similarity", "prompt_following"]].mean()
    assert means.loc["word", "image_similarity"] == pytest.approx(said["image_similarity_word"], abs=1e-4)
    assert means.loc["initializer", "prompt_following"] == pytest.approx(said["prompt_following_initializer"], abs=1e-4)


def test_the_same_bytes_twice(home: Path):
    evaluate.main()
    first = [(home / "data" / name).read_bytes() for name in ("metrics.json", "scores.csv")]
    evaluate.main()
    assert [(home / "data" / name).read_bytes() for name in ("metrics.json", "scores.csv")] == first


def test_dino_looks_as_well_where_it_is_asked_to(home: Path, dino: Path):
    configure(home, dino=str(dino))
    said = figures(home)
    assert said["dino_similarity_word"] > said["dino_similarity_initializer"]
    assert {"dino_similarity_real", "dino_recovered_share", "dino_similarity_train_word"} <= said.keys()
    assert {"dino_similarity", "dino_similarity_train"} <= set(pd.read_csv(home / "data" / "scores.csv").columns)


def test_what_is_missing_is_one_sentence(home: Path):
    configure(home, clip="starter/clop")
    with pytest.raises(SystemExit, match=r"evaluate: the folder starter/clop is not here; mend `evaluate.clip`"):
        evaluate.main()
    configure(home)
    next((home / "data" / "renders").rglob("*.png")).unlink()
    with pytest.raises(SystemExit, match=r"evaluate: data/renders/.*png cannot be read .* `dvc repro`"):
        evaluate.main()
    (home / "data" / "renders" / "index.json").unlink()
    with pytest.raises(SystemExit, match=r"data/renders/index.json cannot be read .* `dvc repro render`"):
        evaluate.main()
