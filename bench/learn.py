"""What is learnt, and in what time: our trainer and the reference script with the same recipe on the same pictures.

    python -m bench.learn --model starter/model --clip starter/clip --curated data/curated \\
        --reference textual_inversion.py --out FOLDER [--steps 400] [--seeds 0 1 2 3 4]

Every run is a process of its own, its start counted. Both words are judged alike: the fixed objective with noise that
neither trainer has seen, and CLIP similarity of renders from the same noise to the held-out pictures.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file

from bench.train import path
from stages.inversion.captions import sentences
from stages.inversion.compute import Compute, Speed
from stages.inversion.objective import evaluate, fixed_batch, relative
from stages.inversion.params import Train
from stages.inversion.pictures import encode, examples
from stages.inversion.stopping import should_stop
from stages.models.backbone import open_backbone
from stages.models.params import Concept, Model
from stages.models.sketch import sketch
from stages.scoring.encoders import Clip

CONCEPT = Concept(placeholder_token="<new>", initializer_token="dragon")
PROMPTS = ("a photo of a <new>", "a <new> at night", "a <new> by the sea", "a <new> in the forest")
UNSEEN = 1000  # added to a run's seed for the noise of its judges
RECIPE = {"batch_size": 4, "lr_scheduler": "cosine", "lr_warmup_steps": 20}


def main() -> None:
    """Train, judge, print a table."""
    args = arguments()
    judge, rows = Judge(args), []
    for seed in args.seeds:
        for name, train in (("reference", reference), *ours(args)):
            word, seconds, said = train(args, args.out / f"{name}-{seed}".replace(" ", "-"), seed)
            rows.append({"name": name, "seed": seed, "seconds": seconds} | judge(word, seed) | said)
            print(json.dumps(rows[-1]), flush=True)
    (args.out / "learn.json").write_text(json.dumps(rows, indent=1))
    table(rows)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "clip", "curated", "reference", "out"):
        parser.add_argument(f"--{name}", type=lambda value: Path(value).resolve(), required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stops", nargs="*", default=["off"], help="kinds of early stopping to run ours with")
    return parser.parse_args()


def reference(args: argparse.Namespace, folder: Path, seed: int) -> tuple[Path, float, dict]:
    """=> the script's word, and its seconds."""
    options = {
        "pretrained_model_name_or_path": args.model,
        "train_data_dir": args.curated / "train",
        "placeholder_token": CONCEPT.placeholder_token,
        "initializer_token": CONCEPT.initializer_token,
        "learnable_property": CONCEPT.property,
        "resolution": Image.open(next((args.curated / "train").glob("*.png"))).width,
        "train_batch_size": RECIPE["batch_size"],
        "gradient_accumulation_steps": 1,
        "max_train_steps": args.steps,
        "learning_rate": args.rate,
        "lr_scheduler": RECIPE["lr_scheduler"],
        "lr_warmup_steps": RECIPE["lr_warmup_steps"],
        "output_dir": folder,
        "seed": seed,
    }
    flat = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "bench.reference", str(folder / "times.json"), str(args.reference), *flat]
    return folder / "learned_embeds.safetensors", timed(command, Path.cwd(), args.threads), {"steps": args.steps}


def ours(args: argparse.Namespace) -> list[tuple[str, object]]:
    """=> names and trainers, one a kind of early stopping."""

    def trainer(stop: str) -> object:
        def train(args: argparse.Namespace, folder: Path, seed: int) -> tuple[Path, float, dict]:
            write_project(args, folder, seed, stop)
            seconds = timed([sys.executable, "-m", "stages.train"], folder, args.threads)
            said = json.loads((folder / "data/train.json").read_text())
            loss = np.genfromtxt(folder / "data/loss.csv", delimiter=",", names=True)["loss"]
            objective = np.genfromtxt(folder / "data/objective.csv", delimiter=",", names=True)
            steps, curve = objective["step"].tolist(), objective["relative"]
            # Late in a cosine the word hardly moves: what the values then do from one to the next is noise.
            raw = np.diff(loss[len(loss) // 2 :]).std() / np.sqrt(2) / loss.mean()
            fixed = np.diff(curve[len(curve) // 2 :]).std() / np.sqrt(2)
            noises = {"raw_noise": raw, "fixed_noise": fixed} | would_stop(steps, curve.tolist())
            return folder / "data/embedding/learned_embeds.safetensors", seconds, {"steps": said["steps_run"]} | noises

        return train

    return [(f"ours {stop}" if stop != "off" else "ours", trainer(stop)) for stop in args.stops]


def would_stop(steps: list[float], values: list[float]) -> dict:
    """A whole run's curve => where each kind of early stopping would have ended it, and its share of the fall."""
    said = {}
    for kind in ("plateau", "dvar"):
        recipe = Train(early_stopping=kind)
        ends = (i for i in range(1, len(steps)) if should_stop(recipe, steps[: i + 1], values[: i + 1]))
        end = next(ends, len(steps) - 1)
        share = (1 - min(values[: end + 1])) / (1 - min(values))
        said |= {f"{kind}_step": steps[end], f"{kind}_share": share}
    return said


def write_project(args: argparse.Namespace, folder: Path, seed: int, stop: str) -> None:
    """=> a folder in which the stage can run."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    if not (folder / "data/curated").exists():
        (folder / "data/curated").symlink_to(args.curated)
    train = {"seed": seed, "steps": args.steps, "learning_rate": args.rate, "early_stopping": stop}
    sections = {
        "filter": {"class": "Any"},
        "model": {"base": str(args.model)},
        "concept": CONCEPT.model_dump(),
        "train": RECIPE | train,
        "render": {"prompts": {"plain": "a {}"}, "seeds": [0]},
        "evaluate": {"clip": "none"},
        "runtime": {"trackers": [], "threads": args.threads},
    }
    (folder / "params.yaml").write_text(json.dumps(sections))


def timed(command: list[str], folder: Path, threads: int) -> float:
    """=> seconds that a command took, its start counted."""
    environment = os.environ | {"PYTHONPATH": path(), "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[:4]} => {done.returncode}\n{done.stderr[-3000:]}")
    return time.perf_counter() - began


class Judge:
    """A word's file, the seed of its run => the objective relative to the initial word, and similarity of renders."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.set_num_threads(args.threads)
        self._backbone = open_backbone(Model(base=str(args.model)), CONCEPT, "cpu", torch.float32)
        texts, choices = sentences("object", CONCEPT.placeholder_token, None, [None])
        holdout = examples(args.curated).holdout
        self._pictures = encode(self._backbone, holdout, choices * len(holdout), False)
        self._ids = self._backbone.tokenize(texts)
        self._compute = Compute(self._backbone, Speed(micro_batch=4), 4)
        self._clip = Clip(str(args.clip), torch.device("cpu"))
        self._real = self._clip.pictures([Image.open(file) for file in holdout])

    def __call__(self, word: Path, seed: int) -> dict:
        (vectors,) = load_file(word).values()
        cells = [self._cells(np.asarray(v, dtype=np.float32), seed) for v in (vectors, self._initial())]
        value = relative(*cells)
        return {"relative": value.relative, "stderr": value.stderr, "similarity": self._similarity(vectors, seed)}

    def _initial(self) -> np.ndarray:
        return self._backbone.initial_vectors(0).numpy()

    def _cells(self, vectors: np.ndarray, seed: int) -> np.ndarray:
        schedule = self._backbone.schedule.to("cpu")
        batch = fixed_batch(self._pictures, self._ids, schedule, seed=seed + UNSEEN, strata=32)
        new = torch.from_numpy(vectors.reshape(self._initial().shape))
        return evaluate(batch, lambda part: self._compute.losses(new, part), 8, 0, 1).numpy()

    def _similarity(self, vectors: np.ndarray, seed: int) -> float:
        shape = tuple(self._pictures.mean.shape[1:])
        new = np.asarray(vectors, dtype=np.float32).reshape(self._initial().shape)
        drawn = [sketch(self._backbone, prompt, new, shape, seed + UNSEEN) for prompt in PROMPTS]
        return float((self._clip.pictures([Image.fromarray(pixels) for pixels in drawn]) @ self._real.T).mean())


def table(rows: list[dict]) -> None:
    """Rows => Markdown, a line a trainer: means over seeds, with the spread between seeds."""
    heads = ["trainer", "steps", "seconds", "objective", "similarity", "noise of raw loss", "of the objective"]
    stops = [f"{kind} {what}" for kind in ("plateau", "dvar") for what in ("stops at", "has of the fall")]
    print("\n| " + " | ".join([*heads, *stops]) + " |\n| --- |" + " ---: |" * 10)
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]

        def mean(key: str, digits: int, mine: list[dict] = mine) -> str:
            values = [row[key] for row in mine if key in row]
            if not values:
                return ""
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"

        figures = [mean("steps", 0), mean("seconds", 1), mean("relative", 4), mean("similarity", 4)]
        figures += [mean("raw_noise", 4), mean("fixed_noise", 5)]
        figures += [mean("plateau_step", 0), mean("plateau_share", 3), mean("dvar_step", 0), mean("dvar_share", 3)]
        print(f"| {name} | " + " | ".join(figures) + " |")


if __name__ == "__main__":
    main()
