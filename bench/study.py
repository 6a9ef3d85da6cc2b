"""How many timesteps, from which part of the schedule: python -m bench.study --model M --curated C --word W --steps N

A fixed objective sees a word through cells of noise. Drawn anew many times, it would say something a little different
each time: that scatter, against the fall that it shows, is what a choice of cells is worth; their number is its price.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from bench.learn import CONCEPT
from stages.inversion.captions import sentences
from stages.inversion.compute import Compute, Speed
from stages.inversion.objective import evaluate, fixed_batch, relative
from stages.inversion.pictures import encode, examples
from stages.models.backbone import open_backbone
from stages.models.params import Model

STRATA = (1, 2, 4, 8, 16)
INTERVALS = ((0.0, 1.0), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0))


def main() -> None:
    """Print a line a choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "curated", "word"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--every", type=int, default=40, help="steps between evaluations, for the price")
    parser.add_argument("--draws", type=int, default=12)
    args = parser.parse_args()
    backbone = open_backbone(Model(base=str(args.model)), CONCEPT, "cpu", torch.float32)
    texts, choices = sentences("object", CONCEPT.placeholder_token, None, [None])
    holdout = examples(args.curated).holdout
    pictures, ids = encode(backbone, holdout, choices * len(holdout), False), backbone.tokenize(texts)
    compute = Compute(backbone, Speed(micro_batch=4), 4)
    (vectors,) = load_file(args.word).values()
    words = torch.from_numpy(np.asarray(vectors, dtype=np.float32)), backbone.initial_vectors(0)
    print("| interval | timesteps | cells | fall | its scatter | its stated error | fall / scatter | price |")
    print("| --- |" + " ---: |" * 7)
    for interval in INTERVALS:
        for strata in STRATA:
            values = []
            for seed in range(args.draws):
                batch = fixed_batch(
                    pictures, ids, backbone.schedule.to("cpu"), seed=500 + seed, strata=strata, interval=interval
                )
                cells = [
                    evaluate(batch, lambda part, word=word: compute.losses(word, part), 8, 0, 1).numpy()
                    for word in words
                ]
                values.append(relative(*cells))
            falls = 1 - np.array([value.relative for value in values])
            scatter, error = falls.std(ddof=1), np.mean([value.stderr for value in values])
            # With frozen weights a backward pass costs what a forward pass does: a step of four samples costs eight.
            price = len(batch) / (args.every * 8)
            print(
                f"| {interval[0]:.2f}-{interval[1]:.2f} | {strata} | {len(batch)} | {100 * falls.mean():.2f}% | "
                f"{100 * scatter:.2f}% | {100 * error:.2f}% | {falls.mean() / scatter:.1f} | {100 * price:.1f}% |",
                flush=True,
            )


if __name__ == "__main__":
    main()
