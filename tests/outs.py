"""Write the outs of earlier stages, for tests of the stages that read them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

PROMPTS = {"zoo": "a {} in the zoo", "a": "a {} & {}"}
TOKENS = {"word": "<critter>", "initializer": "dragon"}


def write_curated(folder: Path) -> Path:
    """Write three training images and two held-out ones with their index, as `curate` does; return the folder."""
    random, index = np.random.default_rng(0), {"class": "Critter"}
    for part, count in (("train", 3), ("holdout", 2)):
        (folder / part).mkdir(parents=True)
        index[part] = [{"file": f"{part}/{i:02d}.png", "source": f"Critter/{part}{i}.png"} for i in range(count)]
        for row in index[part]:
            coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            coarse.resize((32, 32), Image.Resampling.BICUBIC).save(folder / row["file"])
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def write_embedding(path: Path, vectors: np.ndarray, token: str = "<critter>", **metadata: str) -> Path:
    """Write a learned_embeds.safetensors, as `train` does; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({token: vectors.astype(np.float32)}, path, metadata)
    return path


def write_tables(path: Path, widths: dict[str, int], vectors: int = 1, **metadata: str) -> Path:
    """Write an embedding of several tables, with random vectors as large as those of the tiny models."""
    random = np.random.default_rng(0)
    tables = {name: random.standard_normal((vectors, width), dtype=np.float32) for name, width in widths.items()}
    save_file(tables, path, metadata)
    return path


def write_renders(folder: Path, draw: Callable[[str, int], Image.Image], prompts: dict = PROMPTS) -> None:
    """Write a render for every prompt, subject and two seeds with their index, as `render` does."""
    index = {"subjects": TOKENS, "prompts": prompts, "cells": []}
    for name, prompt in prompts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for subject, seed in (("word", 0), ("word", 1), ("initializer", 0), ("initializer", 1)):
            row = {"prompt": name, "subject": subject, "seed": seed, "file": f"{name}/{subject}-{seed}.png"}
            index["cells"].append(row | {"text": prompt.replace("{}", TOKENS[subject])})
            draw(subject, seed).save(folder / row["file"])
    (folder / "index.json").write_text(json.dumps(index, sort_keys=True))
