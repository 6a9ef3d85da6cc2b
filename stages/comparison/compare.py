"""Show experiments side by side on one self-contained page, report/compare.html."""

import argparse
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from stages.common.files import write_atomic
from stages.common.stage import stage
from stages.comparison.curves import line_style, overlaid_curves
from stages.comparison.experiments import Experiment, find_revisions, read_experiment

PAGE = Path("report/compare.html")
RANKED_BY = "image_similarity_gap_closed"
HEADLINES = {
    RANKED_BY: "image similarity: gap to real images closed",
    "prompt_similarity_ratio": "prompt similarity: ratio to the initializer token",
    "test_fall_percent": "test loss: % below the initializer token",
    "validation_loss_relative": "validation loss: lowest, relative",
}


@dataclass(frozen=True)
class Value:
    """A value as it is shown, with its interval or standard error, and as it is sorted; an empty key comes last."""

    text: str = "–"
    key: float | str = ""
    error: str = ""


def render_page(experiments: list[Experiment]) -> str:
    """Return the page as HTML, with the experiments in the order of their image similarity."""
    ranked = sorted(experiments, key=_rank)
    metrics = _differing([experiment.metrics for experiment in ranked], keep=tuple(HEADLINES))
    others = [name for name in metrics if name not in HEADLINES and "_stderr" not in name]
    params = _differing([experiment.params for experiment in ranked])
    context = {
        "experiments": ranked,
        "styles": [line_style(i) for i in range(len(ranked))],
        "main": _columns(ranked, [name for name in HEADLINES if name in metrics], params),
        "others": _columns(ranked, others, []),
        "ranked_by": RANKED_BY,
        "curves": overlaid_curves([experiment.curve for experiment in ranked]),
        "prompts": _seeds_by_prompt(ranked),
        "same_params": not params,
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.render(context) + "\n"


def _seeds_by_prompt(experiments: list[Experiment]) -> dict[str, list[int]]:
    """Return the seeds of every prompt to compare, those prompts first that most experiments have."""
    counts = Counter(prompt for row in experiments for prompt in dict.fromkeys(prompt for prompt, _ in row.renders))
    seeds = dict.fromkeys(key for row in experiments for key in row.renders)
    return {prompt: [seed for other, seed in seeds if other == prompt] for prompt, _ in counts.most_common()}


def _rank(experiment: Experiment) -> float:
    value = experiment.metrics.get(RANKED_BY)
    return -value if isinstance(value, float) else math.inf


def _differing(rows: list[dict], keep: tuple[str, ...] = ()) -> list[str]:
    """Return the names whose values differ between the experiments, and those of `keep` that any of them has."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name in keep or len({str(row.get(name)) for row in rows}) > 1]


def _columns(experiments: list[Experiment], metrics: list[str], params: list[str]) -> list[dict]:
    """Return the columns of a table of experiments, each with a value per experiment."""
    columns = [(name, [_metric(row, name) for row in experiments]) for name in metrics]
    columns += [(name, [_value(row.params.get(name)) for row in experiments]) for name in params]
    return [{"name": name, "label": _label(name), "values": values} for name, values in columns]


def _label(name: str) -> str:
    """Return the heading of a column; params, which contain a dot, keep their names."""
    return HEADLINES.get(name) or (name if "." in name else name.replace("_", " "))


def _metric(experiment: Experiment, name: str) -> Value:
    value = experiment.metrics.get(name)
    if name in experiment.intervals and isinstance(value, float):
        low, high = (f"{end:.3f}".replace("-", "−") for end in experiment.intervals[name])
        return Value(f"{value:.3f}".replace("-", "−"), value, f"{low} to {high}")
    error = experiment.metrics.get(f"{name.removesuffix('_percent')}_stderr_percent")
    return _value(value, error)


def _value(value: object, error: object = None) -> Value:
    """Return an experiment's value as text; a number has as many digits as its error's two leading ones."""
    if value is None:
        return Value()
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        number = float(text)
    except ValueError:
        return Value(text, text)
    if not math.isfinite(number):
        return Value(text)
    if isinstance(error, float) and 0 < error < math.inf:
        digits = max(0, 1 - math.floor(math.log10(error)))
        return Value(f"{number:.{digits}f}".replace("-", "−"), number, f"± {error:.{digits}f}")
    return Value(f"{number:#.4g}".rstrip(".").replace("-", "−") if isinstance(value, float) else text, number)


@stage
def main() -> str:
    """Write the page that compares experiments; say which outs are missing."""
    parser = argparse.ArgumentParser(prog="python -m stages.comparison.compare", description=__doc__)
    help_names = "experiments, branches, tags, commits or `workspace`; default: the last commit and its experiments"
    parser.add_argument("names", nargs="*", help=help_names)
    revisions = find_revisions(parser.parse_args().names)
    experiments = [read_experiment(name, rev) for name, rev in revisions.items()]
    write_atomic(PAGE, render_page(experiments))
    for experiment in experiments:
        if experiment.missing:
            print(f"compare: {experiment.describe_missing()}")
    return f"{len(experiments)} side by side; open {PAGE}"


if __name__ == "__main__":
    main()
