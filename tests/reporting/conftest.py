"""A folder as the other stages leave it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.inversion import word
from tests.inversion.world import draw
from tests.project import SMALL, write_params

PROMPTS = {"zoo": "a {} in the zoo", "a": "{} & {}"}
TRAIN = {
    "learnt": True,
    "fall_percent": 11.74,
    "fall_stderr_percent": 0.83,
    "best_step": 40,
    "steps_run": 60,
    "steps_planned": 80,
    "stopped_early": True,
}
FIGURES = {
    "image_similarity_word": 0.84,
    "image_similarity_initializer": 0.52,
    "image_similarity_real": 0.91,
    "recovered_share": 0.8205,
    "prompt_following_word": 0.29,
    "prompt_following_initializer": 0.3,
    "prompt_following_kept": 0.9667,
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return build(tmp_path, "<critter>", "dragon", PROMPTS)


def build(home: Path, placeholder: str, initializer: str, prompts: dict[str, str], name: str = "0.png") -> Path:
    """=> `home` with every out that the report reads, under names of one's choice."""
    data = home / "data"
    curated = draw(data / "curated")
    index = json.loads((curated / "index.json").read_text()) | {"class": "Critter"}
    for part in ("train", "holdout"):
        index[part] = [row | {"source": f"Critter/{part}{i}{name}"} for i, row in enumerate(index[part])]
    (curated / "index.json").write_text(json.dumps(index))
    sources = [row["source"] for part in ("train", "holdout") for row in index[part]]
    lines = ["file,verdict,reason", *(f'"{source}",keep,' for source in sources), "Critter/spare.png,keep,"]
    lines += ["Critter/a.png,reject,blurred: sharpness 0.1", "Critter/b.png,reject,blurred: sharpness 0.2"]
    lines += ["Critter/c.png,reject,duplicate of 0.png"]
    (data / "manifest.csv").write_text("\n".join(lines) + "\n")
    cells = []
    for key, prompt in prompts.items():
        for subject, written in (("word", placeholder), ("initializer", initializer)):
            for seed in (0, 1):
                file = f"{key}/{subject}-{seed}.png"
                target = data / "renders" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((16, 16, 3), 40 * len(cells) % 256, np.uint8)).save(target)
                text = prompt.replace("{}", written)
                cells.append({"prompt": key, "subject": subject, "seed": seed, "file": file, "text": text})
    told = {"subjects": {"word": placeholder, "initializer": initializer}, "prompts": prompts, "cells": cells}
    (data / "renders" / "index.json").write_text(json.dumps(told, sort_keys=True))
    embedding = data / "embedding" / "learned_embeds.safetensors"
    embedding.parent.mkdir()
    embedding.write_bytes(word.dump(np.zeros((2, 32)), placeholder, {"base_model": "starter/model", "seed": 0}))
    (data / "train.json").write_text(json.dumps(TRAIN))
    stderr = {f"{key}_stderr": 0.01 for key in FIGURES}
    each = {f"image_similarity_word.{key}": 0.8 for key in prompts}
    (data / "metrics.json").write_text(json.dumps(FIGURES | stderr | each))
    (data / "raw.json").write_text(json.dumps({"source": "folder", "name": "pictures", "content_sha256": "ab" * 32}))
    (data / "loss.csv").write_text("step,loss\n" + "".join(f"{i + 1},{0.1 + 0.01 * (i % 7)}\n" for i in range(60)))
    curve = "".join(f"{step},{1 - 0.003 * step},{0.0001 * step},0.1\n" for step in (0, 20, 40, 60))
    (data / "validation.csv").write_text("step,relative,stderr,loss\n" + curve)
    concept = {"placeholder_token": placeholder, "initializer_token": initializer}
    write_params(home, SMALL | {"concept": concept, "render": SMALL["render"] | {"prompts": prompts, "seeds": [0, 1]}})
    return home
