"""A working directory with the outs of all other stages."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.outs import TOKENS, write_curated, write_embedding, write_renders
from tests.project import SMALL, write_params

PROMPTS = {"zoo": "a {} in the zoo", "a": "{} & {}"}
TRAIN = {
    "learned": True,
    "test_fall_percent": 11.74,
    "test_fall_stderr_percent": 0.83,
    "best_step": 40,
    "steps_run": 60,
    "stopped_early": True,
}
METRICS = {
    "image_similarity_word": 0.84,
    "image_similarity_initializer": 0.52,
    "image_similarity_real": 0.91,
    "image_similarity_gap_closed": 0.8205,
    "prompt_similarity_ratio": 0.9667,
}
MANIFEST = """file,verdict,reason,detail
Critter/train0.png,keep,,
Critter/train1.png,keep,,
Critter/train2.png,keep,,
Critter/holdout0.png,keep,,
Critter/holdout1.png,keep,,
Critter/spare.png,keep,,
Critter/a.png,reject,blurred,sharpness 0.1
Critter/b.png,reject,blurred,sharpness 0.2
Critter/c.png,reject,too-small,20 px
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_outs(PROMPTS, TOKENS)
    return tmp_path


def write_outs(prompts: dict[str, str], tokens: dict[str, str]) -> None:
    data = Path("data")
    if not data.exists():
        write_curated(data / "curated")
    draw = {
        (subject, seed): Image.new("RGB", (16, 16), (40 * seed, 0, len(subject)))
        for subject in tokens
        for seed in (0, 1)
    }
    write_renders(data / "renders", prompts, lambda subject, seed: draw[subject, seed], tokens)
    metadata = {"base_model": "starter/model", "seed": "0"}
    write_embedding(data / "embedding" / "learned_embeds.safetensors", np.zeros((2, 32)), tokens["word"], **metadata)
    write_train()
    write_metrics({f"image_similarity_word.{name}": 0.8 for name in prompts})
    (data / "manifest.csv").write_text(MANIFEST)
    (data / "raw.json").write_text(json.dumps({"source": "folder", "name": "images", "content_sha256": "ab" * 32}))
    (data / "loss.csv").write_text("step,loss\n" + "".join(f"{i + 1},{0.1 + 0.01 * (i % 7)}\n" for i in range(60)))
    curve = "".join(f"{step},{1 - 0.003 * step},{0.0001 * step},0.1\n" for step in (0, 20, 40, 60))
    (data / "validation.csv").write_text("step,relative,stderr,loss\n" + curve)
    concept = {"placeholder_token": tokens["word"], "initializer_token": tokens["initializer"]}
    render = SMALL["render"] | {"prompts": prompts, "seeds": [0, 1]}
    write_params(Path(), SMALL | {"concept": concept, "render": render})


def write_train(**changed: object) -> None:
    Path("data/train.json").write_text(json.dumps(TRAIN | changed))


def write_metrics(more: dict[str, float], without: str | None = None) -> None:
    metrics = {name: value for name, value in METRICS.items() if name != without}
    stderr = {f"{name}_stderr": 0.01 for name in metrics}
    Path("data/metrics.json").write_text(json.dumps(metrics | stderr | more))
