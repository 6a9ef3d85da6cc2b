"""What is learnt, and in what time: our trainer and the reference script from the same start, on the same pictures.

    python -m bench.learn --reference textual_inversion.py --out FOLDER [--seeds 0 1 2 3 4] [--set train.steps=400 ...]

The recipe is that of params.yaml. The script starts from a known word, and trains its table in the precision in which
it is stored: so it is given a copy of the model with the text encoder in float32, whose initializer word has the vector
that our run of the same seed starts from. Every training is a process of its own, its start counted, the two in turns.
All words are judged alike: the objective on held-out pictures, with noise that no run has seen, relative to the
true initializer word; and the stages `render` and `evaluate`.
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
from ruamel.yaml import YAML
from safetensors.numpy import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from bench.common import make_project as settle
from bench.common import run_stage as run
from stages.inversion.captions import sentences
from stages.inversion.compute import Compute, Speed
from stages.inversion.objective import evaluate, fixed_batch, relative
from stages.inversion.pictures import encode, examples
from stages.models.backbone import open_backbone
from stages.models.params import Concept, Model

UNSEEN = 1000  # the seed of the judge's noise
STRATA = 64  # the judge's timesteps a held-out picture
SEEDS = [0, 1, 2, 3]  # pictures a prompt
WORD = Path("data/embedding/learned_embeds.safetensors")
# What the script is called with that has another name there.
NAMES = {
    "learning_rate": "learning_rate",
    "lr_scheduler": "lr_scheduler",
    "lr_warmup_steps": "lr_warmup_steps",
    "max_train_steps": "steps",
    "train_batch_size": "batch_size",
    "seed": "seed",
}


def main() -> None:
    """Train, judge, print a table."""
    args = arguments()
    args.out.mkdir(parents=True)
    home = args.out / "ours"
    params = prepare(home, args)
    judge, rows = Judge(home, args.out / "judge", params), []
    for seed in args.seeds:
        params["train"]["seed"] = seed
        trainers = {"reference script": reference, "ours": ours}
        for name in list(trainers)[:: 1 if seed % 2 else -1]:
            words, spent = trainers[name](args, home, params, judge.start(seed))
            for which, file in words.items():
                rows.append({"trainer": f"{name}, {which}", "seed": seed} | spent | judge(file))
                print(json.dumps(rows[-1]), flush=True)
    (args.out / "learn.json").write_text(json.dumps(rows, indent=1))
    table(rows)
    print(f"\nsimilarity of the initializer word's renders {judge.initializer:.4f}, of real pictures {judge.real:.4f}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=lambda value: Path(value).resolve(), required=True)
    parser.add_argument("--out", type=lambda value: Path(value).resolve(), required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="params to change, such as train.steps=300")
    return parser.parse_args()


def prepare(home: Path, args: argparse.Namespace, device: str = "cpu") -> dict:
    """=> params of a folder in which the stages can run, which is made with its pictures chosen if it is not there."""
    torch.set_num_threads(args.threads)
    os.environ |= {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    quiet = [f"runtime.threads={args.threads}", "runtime.trackers=[]", f"render.seeds={SEEDS}"]
    if not home.exists():
        home.mkdir()
        settle(home, [*quiet, *args.set], device)
        for stage in ("download", "filter", "curate"):
            run(home, stage)
    return YAML(typ="safe", pure=True).load((home / "params.yaml").read_text())


def ours(args: argparse.Namespace, home: Path, params: dict, _: torch.Tensor) -> tuple[dict[str, Path], dict]:
    """=> our words, the best and the last, and what they took."""
    last = params["train"] | {"snapshot_every": params["train"]["steps"]}
    YAML(typ="safe", pure=True).dump(params | {"train": last}, home / "params.yaml")
    spent = timed([sys.executable, "-m", "stages.train"], home)
    kept = args.out / f"ours-{params['train']['seed']}"
    (home / WORD.parent).rename(kept)
    (snapshot,) = (kept / "snapshots").iterdir()
    return {"best": kept / WORD.name, "last": snapshot}, spent


def reference(args: argparse.Namespace, home: Path, params: dict, start: torch.Tensor) -> tuple[dict[str, Path], dict]:
    """=> the script's word, its last, and what it took."""
    folder = args.out / f"reference-{params['train']['seed']}"
    pictures = home / "data/curated/train"
    options = {name: params["train"][ours] for name, ours in NAMES.items()} | {
        "pretrained_model_name_or_path": same_start(folder, home, params, start),
        "train_data_dir": pictures,
        "resolution": Image.open(next(pictures.glob("*.png"))).width,
        "placeholder_token": params["concept"]["placeholder_token"],
        "initializer_token": params["concept"]["initializer_token"],
        "learnable_property": params["concept"]["property"],
        "gradient_accumulation_steps": 1,
        "mixed_precision": params["train"]["mixed_precision"],
        "output_dir": folder,
    }
    flat = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    command = [sys.executable, "-m", "bench.reference", str(folder / "times.json"), str(args.reference), *flat]
    return {"last": folder / "learned_embeds.safetensors"}, timed(command, Path.cwd())


def same_start(folder: Path, home: Path, params: dict, start: torch.Tensor) -> Path:
    """=> a copy of the model whose initializer word has the vector `start` (1 D), its text encoder in float32."""
    base, copy = home / params["model"]["base"], folder / "model"
    copy.mkdir(parents=True, exist_ok=True)
    for part in base.iterdir():
        if part.name != "text_encoder":
            (copy / part.name).symlink_to(part)
    text = CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float32)
    words = CLIPTokenizer.from_pretrained(base / "tokenizer")
    (row,) = words.encode(params["concept"]["initializer_token"], add_special_tokens=False)
    text.get_input_embeddings().weight.data[row] = start[0]
    text.save_pretrained(copy / "text_encoder")
    return copy


def timed(command: list[str], folder: Path) -> dict[str, float]:
    """=> seconds that a command took, by the clock and of the processor, its start counted."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    log, began = folder / "train.log", time.perf_counter()
    with log.open("w") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[:4]}\n{log.read_text()[-3000:]}")
    return {"seconds": time.perf_counter() - began, "processor_s": used.ru_utime + used.ru_stime}


class Judge:
    """A word's file => the objective with unseen noise, and how like the held-out pictures its renders are."""

    def __init__(self, home: Path, place: Path, params: dict) -> None:
        self._place, model = place, Model(**params["model"] | {"base": str(home / params["model"]["base"])})
        self._backbone = open_backbone(model, Concept(**params["concept"]), "cpu", torch.float32)
        holdout = examples(home / "data/curated").holdout
        concept = params["concept"]
        texts, choices = sentences(concept["property"], concept["placeholder_token"], None, [None])
        pictures = encode(self._backbone, holdout, choices * len(holdout), False)
        schedule, ids = self._backbone.schedule.to("cpu"), self._backbone.tokenize(texts)
        self._cells = fixed_batch(pictures, ids, schedule, seed=UNSEEN, strata=STRATA)
        self._compute = Compute(self._backbone, Speed(micro_batch=4), 4)
        self._known = self._losses(self._backbone.initializer_vectors())
        (place / WORD.parent).mkdir(parents=True, exist_ok=True)
        for name in ("starter", "data/curated"):
            (place / name).symlink_to((home / name).resolve())
        YAML(typ="safe", pure=True).dump(params, place / "params.yaml")

    def start(self, seed: int) -> torch.Tensor:
        """=> the vectors that our run of that seed starts from."""
        return self._backbone.initial_vectors(seed)

    def __call__(self, word: Path) -> dict[str, float]:
        (vectors,) = load_file(word).values()
        new = torch.from_numpy(np.asarray(vectors, dtype=np.float32)).reshape(self.start(0).shape)
        value, said = relative(self._losses(new), self._known), self._drawn(word)
        self.initializer, self.real = said["image_similarity_initializer"], said["image_similarity_real"]
        named = {"objective": value.relative, "stderr": value.stderr, "similarity": said["image_similarity_word"]}
        return named | {"recovered": said["recovered_share"], "following": said["prompt_following_kept"]}

    def _losses(self, new: torch.Tensor) -> np.ndarray:
        return evaluate(self._cells, lambda part: self._compute.losses(new, part), 8, 0, 1).numpy()

    def _drawn(self, word: Path) -> dict[str, float]:
        (self._place / WORD).write_bytes(word.read_bytes())
        for stage in ("render", "evaluate"):
            run(self._place, stage)
        return json.loads((self._place / "data/metrics.json").read_text())


def table(rows: list[dict]) -> None:
    """Rows => Markdown: a line a seed and trainer, then the medians."""
    digits = {"objective": 4, "similarity": 4, "recovered": 3, "following": 3, "seconds": 1, "processor_s": 1}
    print(f"\n| trainer, its word | seed | {' | '.join(digits)} |\n| --- |" + " ---: |" * (1 + len(digits)))
    names = sorted({row["trainer"] for row in rows}, reverse=True)
    medians = [
        {"trainer": name, "seed": "median"}
        | {key: statistics.median(row[key] for row in rows if row["trainer"] == name) for key in digits}
        for name in names
    ]
    for row in [*sorted(rows, key=lambda row: (row["seed"], names.index(row["trainer"]))), *medians]:
        figures = " | ".join(f"{row[key]:.{places}f}" for key, places in digits.items())
        print(f"| {row['trainer']} | {row['seed']} | {figures} |")


if __name__ == "__main__":
    main()
