"""The evaluate stage, on renders with known metrics."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from stages import evaluate
from tests.outs import write_curated, write_renders
from tests.project import SMALL, write_params
from tests.tiny import tiny_clip

RENDERS, CURATED = Path("data/renders"), Path("data/curated")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory where the placeholder token renders the held-out images, the initializer token one color."""
    monkeypatch.chdir(tmp_path)
    tiny_clip(tmp_path / "starter" / "clip")
    holdout = [Image.open(file) for file in sorted(write_curated(CURATED).glob("holdout/*.png"))]
    navy = Image.new("RGB", (32, 32), "navy")
    prompts = {"plain": "a {}", "night": "a {} at night"}
    write_renders(RENDERS, prompts, lambda subject, seed: holdout[seed] if subject == "word" else navy)
    configure()


def configure(**changed: object) -> None:
    write_params(Path(), SMALL | {"evaluate": SMALL["evaluate"] | changed, "runtime": {"threads": 1, "trackers": []}})


def run() -> dict[str, float]:
    evaluate.main()
    return json.loads(Path("data/metrics.json").read_text())


def copy_renders(source: str, target: str) -> None:
    for file in RENDERS.rglob(f"{source}-*.png"):
        shutil.copy(file, file.with_name(file.name.replace(source, target)))


def test_renders_that_are_real_images():
    metrics = run()
    assert metrics["image_similarity_word"] > metrics["image_similarity_initializer"]
    assert metrics["image_similarity_gap_closed"] > 0.9
    by_prompt = [metrics[f"image_similarity_word.{prompt}"] for prompt in ("night", "plain")]
    assert by_prompt == [metrics["image_similarity_word"]] * 2
    assert all(isinstance(value, float) for value in metrics.values())


def test_equal_renders_close_no_gap():
    copy_renders("initializer", "word")
    metrics = run()
    assert metrics["image_similarity_gap_closed"] == metrics["image_similarity_gap_closed_stderr"] == 0.0
    for name in ("image_similarity", "prompt_similarity"):
        assert metrics[f"{name}_word"] == metrics[f"{name}_initializer"]
    assert metrics.get("prompt_similarity_ratio", 1.0) == 1.0


def test_no_gap_gives_no_metric():
    copy_renders("word", "initializer")
    for file in CURATED.glob("train/*.png"):
        Image.new("RGB", (32, 32), "navy").save(file)
    assert "image_similarity_gap_closed" not in run()


def test_scores_average_to_the_metrics():
    metrics, scores = run(), pd.read_csv("data/scores.csv")
    assert list(scores.columns) == [
        *("prompt", "subject", "seed", "file"),
        *("image_similarity", "image_similarity_train", "prompt_similarity"),
    ]
    assert len(scores) == 8
    for (name, subject), value in scores.groupby("subject")[list(scores.columns[4:])].mean().unstack().items():
        assert metrics[f"{name}_{subject}"] == pytest.approx(value, abs=1e-4)


def test_outs_are_the_same_bytes_twice():
    outs = []
    for _ in range(2):
        evaluate.main()
        outs.append([Path("data", name).read_bytes() for name in ("metrics.json", "scores.csv")])
    assert outs[0] == outs[1]


def test_dino_adds_its_own_metrics(dino: Path):
    configure(dino=str(dino))
    metrics = run()
    assert metrics["dino_similarity_word"] > metrics["dino_similarity_initializer"]
    assert {"dino_similarity_real", "dino_similarity_gap_closed", "dino_similarity_train_word"} <= metrics.keys()
    assert {"dino_similarity", "dino_similarity_train"} <= set(pd.read_csv("data/scores.csv").columns)


def test_missing_inputs_are_reported_in_one_line():
    configure(clip="starter/clop")
    with pytest.raises(SystemExit, match=r"evaluate: the folder starter/clop does not exist; correct `evaluate.clip`"):
        run()
    configure()
    next(RENDERS.rglob("*.png")).unlink()
    with pytest.raises(SystemExit, match=r"evaluate: data/renders/.*png cannot be read .* `dvc repro -f render`"):
        run()
    (RENDERS / "index.json").unlink()
    with pytest.raises(SystemExit, match=r"data/renders/index.json cannot be read .* `dvc repro render`"):
        run()
