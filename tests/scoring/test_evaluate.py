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

RENDERS, CURATED, RAW, TRAIN = (Path("data", name) for name in ("renders", "curated", "raw", "train.json"))
SCORES, ESTIMATES = Path("data/scores.csv"), Path("data/estimates.csv")
NAVY = Image.new("RGB", (32, 32), "navy")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory where the placeholder token renders the held-out images, the initializer token one color."""
    monkeypatch.chdir(tmp_path)
    tiny_clip(tmp_path / "starter" / "clip")
    holdout = [Image.open(file) for file in sorted(write_curated(CURATED).glob("holdout/*.png"))]
    write_renders(RENDERS, lambda subject, seed: holdout[seed] if subject == "word" else NAVY)
    for name, color in (("Critter", "white"), ("Crow", "navy"), ("Rose", "red")):
        (RAW / name).mkdir(parents=True)
        (RAW / name / "0.png").write_bytes(b"no image")
        Image.new("RGB", (40, 20), color).save(RAW / name / "1.png")
    TRAIN.write_text('{"learned": true}')
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
    assert metrics.pop("closer_to_real") is True
    assert all(isinstance(value, float) for value in metrics.values())
    assert (run() | {"closer_to_real": True}, SCORES.read_bytes()) == (metrics | {"closer_to_real": True}, scores)


def test_class_is_recognized_among_the_others():
    metrics = run()
    assert metrics["image_gallery_recall_word"] == 1.0
    assert metrics["image_gallery_precision_word"] > metrics["image_gallery_precision_initializer"]
    assert metrics["image_gallery_recall_initializer"] == 0.0
    assert metrics["image_gallery_recall_chance"] == 0.5  # two held-out images, and one of each of the other classes
    configure(gallery=0)
    assert not any("gallery" in name for name in run())


@pytest.mark.parametrize(
    ("learned", "equal", "line"),
    [
        (True, False, "learned, by the test loss and by the renders: image similarity 0."),
        (True, True, "learned by the test loss, but the renders are not closer to the real images: "),
        (False, False, "not learned by the test loss, but the renders are closer"),
        (False, True, "not learned, neither by the test loss nor by the renders: "),
    ],
)
def test_terminal_line_follows_the_loss_and_the_renders(
    learned: bool, equal: bool, line: str, capsys: pytest.CaptureFixture
):
    TRAIN.write_text(json.dumps({"learned": learned}))
    if equal:
        copy_renders("initializer", "word")
    assert run()["closer_to_real"] != equal
    assert f"evaluate: {line}" in (printed := capsys.readouterr().out)
    assert "recognized among 2 other classes in" in printed


def test_other_subjects_and_settings_are_scored():
    index = json.loads((RENDERS / "index.json").read_text())
    for row in [row for row in index["cells"] if row["subject"] == "word"]:
        for subject, prompt in (("plain", row["prompt"]), ("other", "own")):
            index["cells"].append(row | {"subject": subject, "prompt": prompt, "text": "a critter"})
    index["cells"] = [row | {"steps": n, "guidance_scale": 3.0} for n in (9, 5) for row in index["cells"]]
    (RENDERS / "index.json").write_text(json.dumps(index))
    metrics = run()
    for name in ("image_similarity", "image_gallery_recall", "image_diversity"):
        assert metrics[f"{name}_plain"] == metrics[f"{name}_word"]
    assert metrics["prompt_similarity_plain.zoo"] == metrics["prompt_similarity_word.zoo"]
    assert "image_similarity_other.own" in metrics


@pytest.fixture
def snapshots() -> None:
    """Renders of two snapshots: step 10 has those of the placeholder token, step 20 those of the initializer token."""
    path = RENDERS / "index.json"
    index, copied = json.loads(path.read_text()), {"step-000010": "word", "step-000020": "initializer"}
    for snapshot, subject in copied.items():
        for row in [row for row in index["cells"] if row["subject"] == subject]:
            index["cells"].append(row | {"subject": snapshot, "file": row["file"].replace(subject, snapshot)})
        copy_renders(subject, snapshot)
    index["embeddings"] = {subject: f"{subject}.safetensors" for subject in ("word", *copied)}
    path.write_text(json.dumps(index))


def test_snapshots_have_the_measures_of_the_learned_embedding(snapshots: None):
    metrics = run()
    assert metrics["image_similarity_gap_closed_step-000010"] == metrics["image_similarity_gap_closed"] > 0.9
    assert metrics["prompt_similarity_ratio_step-000010"] == metrics["prompt_similarity_ratio"]
    assert metrics["image_similarity_gap_closed_step-000020"] == metrics["image_tradeoff_step-000020"] == 0.0
    assert metrics["prompt_similarity_ratio_step-000020"] == 1.0
    assert metrics["image_tradeoff_step-000010"] == metrics["image_tradeoff_word"] > 0.9
    assert "chosen" not in metrics


def test_embedding_with_the_best_tradeoff_is_chosen(snapshots: None, capsys: pytest.CaptureFixture):
    configure(choose="tradeoff")
    assert run()["chosen"] == "word.safetensors", "of equal ones, the one with the lowest validation loss"
    copy_renders("initializer", "word")
    assert run()["chosen"] == "step-000010.safetensors"
    assert "; best tradeoff: step-000010.safetensors; data/metrics.json" in capsys.readouterr().out
    for file in CURATED.glob("train/*.png"):
        NAVY.save(file)
    with pytest.raises(SystemExit, match=r"evaluate: there is no tradeoff, .*set `evaluate.choose: validation`"):
        run()


def test_tradeoff_needs_snapshots():
    configure(choose="tradeoff")
    with pytest.raises(SystemExit, match=r"evaluate: there are no renders of snapshots; set `render.snapshots`"):
        run()


def test_equal_renders_close_no_gap():
    copy_renders("initializer", "word")
    metrics = run()
    assert metrics["image_similarity_gap_closed"] == metrics["image_similarity_gain"] == 0.0
    assert metrics["closer_to_real"] is False
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
    names = [f"{encoder}_{name}" for encoder in ("image", "dino") for name in ("similarity", "similarity_train")]
    assert len(scores) == 8
    for (name, subject), value in scores.groupby("subject")[[*names, "prompt_similarity"]].mean().unstack().items():
        assert metrics[f"{name}_{subject}"] == pytest.approx(value, abs=1e-4)
    estimates = pd.read_csv(ESTIMATES).set_index("name")
    assert set(estimates.index) == metrics.keys() - {"closer_to_real"}
    assert estimates["low"].isna().sum() == 2, "the spread of three training images, by two encoders"
    assert (estimates.dropna()["low"] <= estimates.dropna()["value"]).all()
    assert (estimates.dropna()["value"] <= estimates.dropna()["high"]).all()
    assert metrics["dino_similarity_word"] > metrics["dino_similarity_initializer"]
    assert {"dino_similarity_real", "dino_similarity_gap_closed"} <= metrics.keys()


def test_missing_inputs_are_reported_in_one_line():
    configure(clip="starter/clop")
    with pytest.raises(SystemExit, match=r"evaluate: the folder starter/clop does not exist; correct `evaluate.clip`"):
        run()
    configure()
    index = CURATED / "index.json"
    content = index.read_text()
    index.write_text(json.dumps(json.loads(content) | {"holdout": []}))
    with pytest.raises(SystemExit, match=f"evaluate: {index} cannot be read .*holdout.* `dvc repro curate`"):
        run()
    index.write_text(content)
    files = {RENDERS / "a" / "word-0.png": "-f render", TRAIN: "train", RENDERS / "index.json": "render"}
    for file, stage in files.items():
        file.unlink()
        with pytest.raises(SystemExit, match=f"evaluate: {file} cannot be read .* `dvc repro {stage}`"):
            run()
