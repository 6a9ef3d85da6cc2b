"""How many timesteps, from which part of the schedule: python -m bench.study --model M --curated C --word W

A fixed objective sees a word through cells of noise. Drawn anew many times, it would say something a little different
each time: that scatter, against the fall that it shows, is what a choice of cells is worth; their number is its price.
Every choice is a part of one pool: cells evenly over the schedule, neighbours with different pictures.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from stages.inversion.captions import sentences
from stages.inversion.dataset import encode, examples
from stages.inversion.diffusion_loss import Compute, Speed
from stages.inversion.validation import evaluate, fixed_batch, relative
from stages.models.backbone import open_backbone
from stages.models.params import Concept, Model

CONCEPT = Concept(placeholder_token="<new>", initializer_token="dragon")
MOST = 16  # timesteps a picture in the pool
INTERVALS = {"all": (0.0, 1.0), "less noise": (0.0, 0.5), "more noise": (0.5, 1.0)}


def main() -> None:
    """Print a line a choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "curated", "word"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--every", type=int, default=40, help="steps between evaluations, for the price")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    word, initial = pool(args)
    print("| timesteps from | a picture | cells | fall | its scatter | its stated error | fall / scatter | price |")
    print("| --- |" + " ---: |" * 7)
    for name, (start, end) in INTERVALS.items():
        for strata in (1, 2, 4, 8, MOST):
            stride = MOST // strata
            places = range(stride // 2, word.shape[1], stride)
            cells = [i for i in places if start <= (i + 0.5) / word.shape[1] < end]
            values = [relative(w[cells], i[cells]) for w, i in zip(word, initial, strict=True)]
            falls = 1 - np.array([value.relative for value in values])
            scatter, error = falls.std(ddof=1), np.mean([value.stderr for value in values])
            # With frozen weights a backward pass costs what a forward pass does: a step of four samples costs eight.
            price = len(cells) / (args.every * 8)
            print(
                f"| {name} | {strata} | {len(cells)} | {100 * falls.mean():.2f}% | {100 * scatter:.2f}% | "
                f"{100 * error:.2f}% | {falls.mean() / scatter:.1f} | {100 * price:.1f}% |",
                flush=True,
            )


def pool(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """=> losses with the word and with the initializer word (draws x cells)."""
    backbone = open_backbone(Model(base=str(args.model)), CONCEPT, "cpu", torch.float32)
    texts, choices = sentences("object", CONCEPT.placeholder_token, None, [None])
    holdout = examples(args.curated).holdout
    pictures, ids = encode(backbone, holdout, choices * len(holdout), False), backbone.tokenize(texts)
    compute, schedule = Compute(backbone, Speed(micro_batch=4), 4), backbone.schedule.to("cpu")
    (vectors,) = load_file(args.word).values()
    rows = []
    for new in (torch.from_numpy(np.asarray(vectors, dtype=np.float32)), backbone.initializer_vectors()):
        batches = (fixed_batch(pictures, ids, schedule, seed=500 + i, strata=MOST) for i in range(args.draws))
        rows.append([evaluate(b, lambda part, new=new: compute.losses(new, part), 8, 0, 1).numpy() for b in batches])
    return np.array(rows[0]), np.array(rows[1])


if __name__ == "__main__":
    main()
