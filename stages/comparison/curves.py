"""Draw the validation curves of all experiments over each other, as SVG in the colors of the page."""

import io
import re

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.comparison.experiments import Curve
from stages.reporting.charts import COLORS, FAINT, STYLE

SIZES = {"wide": (1040, 400), "narrow": (380, 360)}  # px; the page shows the one that fits
PALETTE = 8  # colors --c0 to --c7 of the page
DASHES = ("none", "5 3", "1.5 2.5")  # another pattern for each round of the palette


def line_style(i: int) -> dict[str, str]:
    """Return the color and the dashes of experiment `i`, for its curve and for the legend."""
    return {"color": f"var(--c{i % PALETTE})", "dashes": DASHES[i // PALETTE % len(DASHES)]}


def overlaid_curves(curves: list[Curve | None]) -> list[str]:
    """Return one drawing per size; the curve of experiment i has the attribute data-experiment."""
    return [_draw(curves, name) for name in SIZES]


def _draw(curves: list[Curve | None], name: str) -> str:
    width, height = SIZES[name]
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        axes = figure.subplots()
        axes.set_title("validation loss, relative to the initializer token")
        axes.set_xlabel("steps", loc="right")
        axes.grid(axis="y")
        axes.axhline(1, color=FAINT, linewidth=1, linestyle=(0, (4, 4)))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        for i, curve in reversed([*enumerate(curves)]):  # the first is drawn last, on top
            if curve:
                (line,) = axes.plot(curve.step, curve.relative, linewidth=2, color=f"#0000{i % PALETTE:02x}")
                line.set_gid(f"experiment={i}")
                if (dashes := line_style(i)["dashes"]) != "none":
                    line.set_dashes([float(length) for length in dashes.split()])
        file = io.StringIO()
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    svg = re.sub(r' id="[^"]*_\d+"', "", file.getvalue()).replace("xlink:href", "href")
    svg = re.sub(r'id="experiment=(\d+)"', r'data-experiment="\1"', svg)
    svg = re.sub(r"#00000(\d)", r"var(--c\1)", svg)
    for variable, color in COLORS.items():
        svg = svg.replace(color, f"var({variable})")
    return f'<svg class="{name}" viewBox="0 0 {width} {height}">' + re.split(r"<svg[^>]*>", svg)[1]
