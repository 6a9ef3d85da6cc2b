"""`python -m starter.recipe.dataset`: the training images, labels and captions, as arrays in the work folder."""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from starter.captions import caption, vocabulary
from starter.labels import labels
from starter.recipe.options import parse_options
from starter.tokenizer import save_tokenizer, train_tokenizer
from starter.world.attributes import generator
from starter.world.rendering import SIDE, render, sample_spec

CAPTIONS = 6
CHUNK = 512
FRESH = 10_000_000  # seeds from here on are never trained on


def draw_chunk(tokenizer: CLIPTokenizer, first: int, count: int) -> tuple[np.ndarray, ...]:
    """seeds => images n x 128 x 128 x 3 uint8, labels n x groups, tokens n x CAPTIONS x length int16."""
    specs = [sample_spec(seed) for seed in range(first, first + count)]
    images = np.stack([np.asarray(render(spec)) for spec in specs])
    said = []
    for spec in specs:
        rng = generator(spec.seed, 9)
        said += [caption(spec, rng) for _ in range(CAPTIONS)]
    length = tokenizer.model_max_length
    tokens = tokenizer(said, padding="max_length", truncation=True, max_length=length)["input_ids"]
    tokens = np.array(tokens, np.int16).reshape(count, CAPTIONS, length)
    return images, np.array([labels(s) for s in specs], np.int64), tokens


def draw_dataset(work: Path, count: int, workers: int) -> None:
    """=> images.npy, labels.npy, tokens.npy and the tokenizer's folder under `work`."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are parallel already
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(vocabulary())
    save_tokenizer(tokenizer, work / "tokenizer")
    starts = range(0, count, CHUNK)
    sizes = [min(CHUNK, count - s) for s in starts]
    images = np.lib.format.open_memmap(work / "images.npy", "w+", np.uint8, (count, SIDE, SIDE, 3))
    others = []
    with ProcessPoolExecutor(workers) as pool:
        for start, part in zip(starts, pool.map(partial(draw_chunk, tokenizer), starts, sizes), strict=True):
            images[start : start + len(part[0])] = part[0]
            others.append(part[1:])
    images.flush()
    np.save(work / "labels.npy", np.concatenate([a for a, _ in others]))
    np.save(work / "tokens.npy", np.concatenate([b for _, b in others]))
    print(f"{count} images, {len(tokenizer)} tokens", flush=True)


if __name__ == "__main__":
    options = parse_options(__doc__)
    draw_dataset(options.work, options.count, options.workers)
