"""Write the outs of earlier stages, for tests of the stages that read them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

TOKENS = {"word": "<critter>", "initializer": "dragon"}


def write_curated(folder: Path, train: int = 3, holdout: int = 2, side: int = 32) -> Path:
    """Write random smooth images and their index, as `curate` does; return the folder."""
    random, index = np.random.default_rng(0), {"class": "Critter"}
    for part, count in (("train", train), ("holdout", holdout)):
        (folder / part).mkdir(parents=True)
        index[part] = [{"file": f"{part}/{i:02d}.png", "source": f"Critter/{part}{i}.png"} for i in range(count)]
        for row in index[part]:
            coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / row["file"])
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def write_embedding(path: Path, vectors: np.ndarray, token: str = "<critter>", **metadata: str) -> Path:
    """Write a learned_embeds.safetensors, as `train` does; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({token: vectors.astype(np.float32)}, path, metadata)
    return path


def write_renders(
    folder: Path, prompts: dict[str, str], draw: Callable[[str, int], Image.Image], tokens: dict[str, str] = TOKENS
) -> None:
    """Write renders with two seeds, drawn by subject and seed, and their index, as `render` does."""
    cells = [
        {"prompt": name, "subject": subject, "seed": seed, "text": prompt.replace("{}", token)}
        for name, prompt in prompts.items()
        for subject, token in tokens.items()
        for seed in (0, 1)
    ]
    for cell in cells:
        cell["file"] = f"{cell['prompt']}/{cell['subject']}-{cell['seed']}.png"
        (folder / cell["prompt"]).mkdir(parents=True, exist_ok=True)
        draw(cell["subject"], cell["seed"]).save(folder / cell["file"])
    index = {"subjects": tokens, "prompts": prompts, "cells": cells}
    (folder / "index.json").write_text(json.dumps(index, sort_keys=True))
