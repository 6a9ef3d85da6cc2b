"""When early stopping would have ended a long run, and what it would have lost: python -m bench.stopping --out FOLDER

Trains the recipe of params.yaml for many steps, once a seed, and replays the rules over the curves: a rule is a pure
function of the curve, so that a run which it ends is the beginning of the whole run; `--real` runs one to show it. A
seed whose curves are in the folder is not trained again.

Noise is what a curve does from one value to the next in the second half of a run, when little is learnt any more: the
standard deviation of the differences over the root of two, relative to the mean of the values.
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from bench.common import run_stage as run
from bench.learn import prepare
from stages.inversion.params import Train
from stages.inversion.stopping import should_stop

CURVES = ("validation.csv", "loss.csv", "train.json")
PATIENCES, FALLS = (80, 120, 160, 200, 280, 400), (0.0, 0.002, 0.005, 0.01)


def main() -> None:
    """Train, replay, print tables."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    home, runs = args.out / "home", []
    params = prepare(home, args, args.device)
    for seed in args.seeds:
        folder = args.out / f"seed-{seed}"
        if not folder.exists():
            train(home, params, {"seed": seed}, folder)
        runs.append(read(folder))
        print(json.dumps({"seed": seed} | noise(*runs[-1])), flush=True)
    rules = {"plateau": Train(early_stopping="plateau"), "dvar": Train(early_stopping="dvar")}
    for name, rule in rules.items():
        print(f"\n| {name}, seed | stops at | of | share of the fall |\n| --- |" + " ---: |" * 3)
        for seed, (steps, values, _) in zip(args.seeds, runs, strict=True):
            end, share = replay(rule, steps, values)
            print(f"| {seed} | {end} | {steps[-1]} | {share:.1%} |")
    grid(runs)
    if args.real:
        seed, (steps, values, _) = args.seeds[0], runs[0]
        folder = args.out / "real"
        train(home, params, {"seed": seed, "early_stopping": "plateau"}, folder)
        ended, told, _ = read(folder)
        same = told == values[: len(told)] and ended[-1] == replay(rules["plateau"], steps, values)[0]
        print(f"\nseed {seed}, stopped by plateau for real: at step {ended[-1]}, {'as' if same else 'not as'} replayed")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=lambda value: Path(value).resolve(), required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--real", action="store_true", help="also run the first seed with plateau")
    parser.add_argument("--set", nargs="*", default=["train.steps=2000"], help="params to change; given: a long run")
    return parser.parse_args()


def train(home: Path, params: dict, changes: dict, folder: Path) -> None:
    """A run of the stage => its curves in a folder."""
    YAML(typ="safe", pure=True).dump(params | {"train": params["train"] | changes}, home / "params.yaml")
    run(home, "train")
    folder.mkdir()
    for name in CURVES:
        shutil.copy(home / "data" / name, folder)


def read(folder: Path) -> tuple[list[int], list[float], np.ndarray]:
    """=> the steps that were evaluated, the objective there, the raw loss of every step."""
    objective, loss = (np.genfromtxt(folder / name, delimiter=",", names=True) for name in CURVES[:2])
    return objective["step"].astype(int).tolist(), objective["relative"].tolist(), loss["loss"]


def noise(steps: list[int], values: list[float], loss: np.ndarray) -> dict[str, float]:
    """A run's curves => the noise of each, and its best."""

    def jitter(curve: np.ndarray) -> float:
        late = curve[len(curve) // 2 :]
        return float(np.diff(late).std() / np.sqrt(2) / late.mean())

    raw, fixed = jitter(loss), jitter(np.array(values))
    best = int(np.argmin(values))
    said = {"raw_loss": raw, "objective": fixed, "ratio": fixed / raw, "best": values[best], "best_step": steps[best]}
    return {name: round(value, 5) for name, value in said.items()}


def replay(rule: Train, steps: list[int], values: list[float]) -> tuple[int, float]:
    """A rule, a whole run's curve => the step at which it would have ended, and the share of the fall it would have."""
    ends = (i for i in range(len(steps)) if should_stop(rule, steps[: i + 1], values[: i + 1]))
    end = next(ends, len(steps) - 1)
    return steps[end], (1 - min(values[: end + 1])) / (1 - min(values))


def grid(runs: list[tuple[list[int], list[float], np.ndarray]]) -> None:
    """Print what plateau does with other numbers: median and worst of the runs."""
    print("\n| patience | least fall | stops at, median | latest | share of the fall, median | least |")
    print("| ---: |" + " ---: |" * 5)
    for patience in PATIENCES:
        for fall in FALLS:
            rule = Train(early_stopping="plateau", early_stopping_patience=patience, early_stopping_fall=fall)
            ends, shares = zip(*(replay(rule, steps, values) for steps, values, _ in runs), strict=True)
            middle = f"{statistics.median(ends):.0f} | {max(ends)} | {statistics.median(shares):.1%}"
            print(f"| {patience} | {fall} | {middle} | {min(shares):.1%} |")


if __name__ == "__main__":
    main()
