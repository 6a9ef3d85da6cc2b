"""Draw the training images, labels and captions, as arrays in the work folder, and load them for training."""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

from starter.captions import caption, vocabulary
from starter.labels import labels
from starter.recipe.options import parse_options
from starter.tokenizer import save_tokenizer, train_tokenizer
from starter.world.attributes import generator
from starter.world.rendering import SIDE, render, sample_spec

CAPTIONS = 6  # per image
CHUNK = 512  # images per task of a worker
CAPTION_STREAM = 9


class ImageDataset:
    """Images (uint8), labels and caption tokens on one device; a process of several holds its own shard."""

    def __init__(self, work: Path, device: str, rank: int = 0, world_size: int = 1):
        self.device = device
        self.images, self.labels, self.tokens = (
            torch.from_numpy(np.array(np.load(work / f"{name}.npy", mmap_mode="r")[rank::world_size])).to(device)
            for name in ("images", "labels", "tokens")
        )

    def sample_indices(self, batch: int, rng: torch.Generator) -> torch.Tensor:
        """Sample the indices of a batch."""
        return torch.randint(len(self.images), (batch,), generator=rng, device=self.device)

    def load(self, index: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        """Return B x 3 x 128 x 128 images in -1..1; with a generator, mirror half of them at random."""
        x = self.images[index].permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        if rng is None:
            return x
        flip = torch.rand(len(index), 1, 1, 1, generator=rng, device=self.device) < 0.5
        return torch.where(flip, x.flip(3), x)


def draw_chunk(tokenizer: CLIPTokenizer, first: int, count: int) -> tuple[np.ndarray, ...]:
    """Draw the images of consecutive seeds; return the images, their labels and the tokens of their captions.

    Shapes: count x 128 x 128 x 3 (uint8), count x groups (int64), count x CAPTIONS x length (int16).
    """
    specs = [sample_spec(seed) for seed in range(first, first + count)]
    images = np.stack([np.asarray(render(spec)) for spec in specs])
    captions = []
    for spec in specs:
        rng = generator(spec.seed, CAPTION_STREAM)
        captions += [caption(spec, rng) for _ in range(CAPTIONS)]
    length = tokenizer.model_max_length
    tokens = tokenizer(captions, padding="max_length", truncation=True, max_length=length)["input_ids"]
    tokens = np.array(tokens, np.int16).reshape(count, CAPTIONS, length)
    return images, np.array([labels(spec) for spec in specs], np.int64), tokens


def main(arguments: list[str] | None = None) -> None:
    """Write images.npy, labels.npy, tokens.npy and the tokenizer's folder to the work folder."""
    options = parse_options(__doc__, arguments)
    work, count = options.work, options.count
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the workers are parallel already
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(vocabulary())
    save_tokenizer(tokenizer, work / "tokenizer")
    starts = range(0, count, CHUNK)
    sizes = [min(CHUNK, count - start) for start in starts]
    images = np.lib.format.open_memmap(work / "images.npy", "w+", np.uint8, (count, SIDE, SIDE, 3))
    label_chunks, token_chunks = [], []
    with ProcessPoolExecutor(options.workers) as pool:
        chunks = pool.map(partial(draw_chunk, tokenizer), starts, sizes)
        for start, (pixels, chunk_labels, tokens) in zip(starts, chunks, strict=True):
            images[start : start + len(pixels)] = pixels
            label_chunks.append(chunk_labels)
            token_chunks.append(tokens)
    images.flush()
    np.save(work / "labels.npy", np.concatenate(label_chunks))
    np.save(work / "tokens.npy", np.concatenate(token_chunks))
    print(f"{count} images, {len(tokenizer)} tokens", flush=True)


if __name__ == "__main__":
    main()
