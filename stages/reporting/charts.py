"""Draw the curves over the steps as SVG whose colors are CSS variables of the page, so that they follow its theme."""

import io
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.reporting.inputs import Snapshot
from stages.reporting.measures import ENCODERS, Value

SIZES = {"wide": (1040, 430), "narrow": (380, 390)}  # px; the page shows the one that fits
COLORS = {"--accent": "#b4410f", "--faint": "#66635d", "--line": "#e3dfd6", "--bar": "#cbc6bb", "--paper": "#fbfaf7"}
ACCENT, FAINT, LINE, BAR, PAPER = COLORS.values()
STYLE = {"svg.fonttype": "none", "font.sans-serif": "DejaVu Sans", "font.size": 13}
STYLE |= {"axes.titlelocation": "left", "axes.titlesize": 13, "axes.xmargin": 0.01}
STYLE |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), FAINT)
STYLE |= dict.fromkeys(("axes.edgecolor", "grid.color"), LINE)
STYLE |= dict.fromkeys(("axes.spines.left", "axes.spines.right", "axes.spines.top"), False)
STYLE |= dict.fromkeys(("xtick.major.size", "ytick.major.size"), 0)
DASHED = (0, (4, 4))
MOST_POINTS = 800


class Panel(NamedTuple):
    """A measure of the snapshots: its columns step, value, low and high (NaN: no interval), and values to compare with.

    The value at the step `marked` is that of the recommended embedding.
    """

    title: str
    table: pd.DataFrame
    references: list[float]
    marked: int


def training_curves(validation: pd.DataFrame, loss: pd.DataFrame) -> dict[str, str]:
    """Draw the chart of the training curves as inline SVG, one drawing per size."""

    def plot(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        _plot_validation_loss(top, validation)
        means = smooth(loss)
        bottom.plot(means["step"], means["loss"], color=BAR, linewidth=1)
        bottom.set_title("training loss")
        bottom.yaxis.set_major_locator(MaxNLocator(2))

    return {name: _draw(plot, name, "training") for name in SIZES}


def snapshot_curves(panels: list[Panel]) -> dict[str, str]:
    """Draw the chart of the snapshots, a curve for each panel, as inline SVG, one drawing per size."""

    def plot(figure: Figure) -> None:
        for axes, panel in zip(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels, strict=True):
            _plot_panel(axes, panel)

    return {name: _draw(plot, name, "snapshots") for name in SIZES}


def smooth(loss: pd.DataFrame) -> pd.DataFrame:
    """Return at most `MOST_POINTS` rows, the means of equal spans of steps."""
    return loss.groupby(loss.index // math.ceil(len(loss) / MOST_POINTS)).mean()


def scale_positions(values: dict[str, float]) -> dict[str, float]:
    """Return where values stand on the scale of a chart, in percent, with 12 % of their range free at both ends."""
    low, high = min(values.values()), max(values.values())
    margin = 0.12 * ((high - low) or 1)
    return {name: round(100 * (value - low + margin) / (high - low + 2 * margin), 1) for name, value in values.items()}


def _draw(plot: Callable[[Figure], None], name: str, content: str) -> str:
    width, height = SIZES[name]
    # The drawings stand on one page and must not share ids, which matplotlib derives from the salt.
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": f"{content} {name}"}):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        plot(figure)
        figure.axes[-1].set_xlabel("steps", loc="right")
        figure.axes[-1].xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        file = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    svg = re.sub(r' id="[^"]*_\d+"', "", file.getvalue())  # names of groups, which repeat in every drawing
    for old, new in {"xlink:href": "href", **{color: f"var({name})" for name, color in COLORS.items()}}.items():
        svg = svg.replace(old, new)
    return f'<svg class="{name}" viewBox="0 0 {width} {height}">' + re.split(r"<svg[^>]*>", svg)[1]


def _plot_validation_loss(axes: Axes, validation: pd.DataFrame) -> None:
    steps, relative, stderr = (validation[column] for column in ("step", "relative", "stderr"))
    best = relative.idxmin()
    axes.set_title("validation loss, relative to the initializer token")
    axes.grid(axis="y")
    axes.axhline(1, color=FAINT, linewidth=1, linestyle=DASHED)
    axes.fill_between(steps, relative - stderr, relative + stderr, color=ACCENT, alpha=0.16, linewidth=0)
    axes.plot(steps, relative, color=ACCENT, linewidth=2.5)
    axes.plot(steps[best], relative[best], "o", color=ACCENT, markersize=10, markeredgecolor=PAPER, markeredgewidth=2)
    label, below = f"{relative[best]:.3f} at step {steps[best]:,.0f}", (steps[best], relative[best] - stderr[best])
    side = "left" if steps[best] < steps.max() / 2 else "right"
    axes.annotate(label, below, (0, -16), textcoords="offset points", ha=side, color=ACCENT)
    shift = 4 if relative[best] < 1 else -13  # away from the label of the best step
    axes.annotate("initializer token", (1, 1), (0, shift), axes.get_yaxis_transform(), "offset points", ha="right")
    axes.margins(y=0.16)


def _plot_panel(axes: Axes, panel: Panel) -> None:
    table, marked = panel.table, panel.table[panel.table["step"] == panel.marked].iloc[0]
    axes.set_title(panel.title)
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(3))
    for value in panel.references:
        axes.axhline(value, color=FAINT, linewidth=1, linestyle=DASHED)
    below, above = table["value"] - table["low"], table["high"] - table["value"]
    axes.errorbar(
        table["step"], table["value"], [below.clip(0), above.clip(0)],
        color=ACCENT, linewidth=2.5, elinewidth=1.5, marker="o", markersize=5,
    )  # fmt: skip
    point = (marked["step"], marked["value"])
    axes.plot(*point, "o", color=ACCENT, markersize=12, markeredgecolor=PAPER, markeredgewidth=2, zorder=3)
    side, shift = ("left", 9) if marked["step"] < table["step"].max() else ("right", -9)
    axes.annotate(f"{marked['value']:.3f}", point, (shift, -15), textcoords="offset points", ha=side, color=ACCENT)
    axes.margins(x=0.08, y=0.2)


def panels(snapshots: list[Snapshot], estimates: dict[str, Value], chosen: Snapshot | None) -> list[Panel]:
    """Return a panel for the likeness, the similarity with the prompts, and the tradeoff if it could be estimated.

    The first and the last are by DINO if it was measured, as `evaluate` chooses. Marked is `chosen`, or else `word`.
    """
    encoder = "dino" if "dino_tradeoff_word" in estimates else "image"
    titles = {
        f"{encoder}_similarity": f"likeness, by {ENCODERS[encoder]}",
        "prompt_similarity": "follows the prompt, by CLIP",
        f"{encoder}_tradeoff": "tradeoff of both",
    }
    (marked,) = (row.step for row in snapshots if row == chosen or (not chosen and row.subject == "word"))
    found = []
    for key, title in titles.items():
        values = {row.step: estimates.get(f"{key}_{row.subject}") for row in snapshots}
        rows = [(step, value.value, value.low, value.high) for step, value in values.items() if value]
        table = pd.DataFrame(rows, columns=["step", "value", "low", "high"], dtype=float)
        floor_and_ceiling = [estimates.get(f"{key}_{kind}") for kind in ("initializer", "real")]
        if values.get(marked):
            found.append(Panel(title, table, [value.value for value in floor_and_ceiling if value], marked))
    return found


def likeness_positions(likeness: dict) -> dict[str, dict[str, float]]:
    """Return where each likeness and its interval stand on the scale of a chart, in percent of its length."""
    ends = ("value", "low", "high")
    flat = {(kind, end): getattr(value, end) for kind, value in likeness.items() for end in ends}
    scaled = scale_positions({key: value for key, value in flat.items() if value is not None})
    return {kind: {end: scaled.get((kind, end)) for end in ends} for kind in likeness}
