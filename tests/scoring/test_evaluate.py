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

RENDERS, CURATED, SCORES = Path("data/renders"), Path("data/curated"), Path("data/scores.csv")
NAVY = Image.new("RGB", (32, 32), "navy")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory where the placeholder token renders the held-out images, the initializer token one color."""
    monkeypatch.chdir(tmp_path)
    tiny_clip(tmp_path / "starter" / "clip")
    holdout = [Image.open(file) for file in sorted(write_curated(CURATED).glob("holdout/*.png"))]
    write_renders(RENDERS, lambda subject, seed: holdout[seed] if subject == "word" else NAVY)
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
    metrics, scores = run(), SCORES.read_bytes()
    assert metrics["image_similarity_word"] > metrics["image_similarity_initializer"]
    assert metrics["image_similarity_gap_closed"] > 0.9
    assert {metrics[f"image_similarity_word{prompt}"] for prompt in ("", ".a", ".zoo")} == {
        metrics["image_similarity_word"]
    }
    assert all(isinstance(value, float) for value in metrics.values())
    assert (run(), SCORES.read_bytes()) == (metrics, scores)


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
        NAVY.save(file)
    assert "image_similarity_gap_closed" not in run()


def test_scores_average_to_the_metrics(dino: Path):
    configure(dino=str(dino))
    metrics, scores = run(), pd.read_csv(SCORES)
    assert list(scores.columns[:4]) == ["prompt", "subject", "seed", "file"]
    names = [
        "image_similarity",
        "image_similarity_train",
        "dino_similarity",
        "dino_similarity_train",
        "prompt_similarity",
    ]
    assert list(scores.columns[4:]) == names
    assert len(scores) == 8
    for (name, subject), value in scores.groupby("subject")[names].mean().unstack().items():
        assert metrics[f"{name}_{subject}"] == pytest.approx(value, abs=1e-4)
    assert metrics["dino_similarity_word"] > metrics["dino_similarity_initializer"]
    assert {"dino_similarity_real", "dino_similarity_gap_closed"} <= metrics.keys()


def test_missing_inputs_are_reported_in_one_line():
    configure(clip="starter/clop")
    with pytest.raises(SystemExit, match=r"evaluate: the folder starter/clop does not exist; correct `evaluate.clip`"):
        run()
    configure()
    for file, stage in ((RENDERS / "a" / "word-0.png", "-f render"), (RENDERS / "index.json", "render")):
        file.unlink()
        with pytest.raises(SystemExit, match=f"evaluate: {file} cannot be read .* `dvc repro {stage}`"):
            run()
