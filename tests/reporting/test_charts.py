"""The curves as they are drawn."""

import math
import re
from xml.etree import ElementTree

import pandas as pd
import pytest

from stages.reporting.charts import MOST_POINTS, SIZES, scale_positions, smooth, training_curves

Points = list[tuple[float, float]]


def curves(relative: list[float], stderr: list[float], loss: list[float]) -> dict[str, str]:
    validation = pd.DataFrame({"step": range(0, 10 * len(relative), 10), "relative": relative, "stderr": stderr})
    return training_curves(validation, pd.DataFrame({"step": range(1, len(loss) + 1), "loss": loss}))


def line(svg: str, color: str, style: str = "stroke-width") -> Points:
    """Return the points of the first path in a color."""
    paths = ElementTree.fromstring(svg.replace("xlink:", "")).iter("path")
    styles = {path.get("d"): path.get("style", "") for path in paths}
    path = next(d for d, text in styles.items() if f"stroke: var({color})" in text and style in text)
    return [tuple(map(float, point)) for point in re.findall(r"[ML] (\S+) (\S+)", path)]


@pytest.mark.parametrize("size", sorted(SIZES))
def test_validation_loss_is_to_scale_with_its_reference_and_best_step(size: str):
    svg = curves([1.0, 0.8, 0.9], [0.0, 0.02, 0.02], [0.1] * 20)[size]
    (x0, y0), (x1, y1), (x2, y2) = line(svg, "--accent")
    assert (x1 - x0, y1 - y2) == (pytest.approx(x2 - x1, abs=0.01), pytest.approx(y2 - y0, abs=0.01))
    assert line(svg, "--faint", "stroke-dasharray")[0][1] == pytest.approx(y0)
    texts = re.findall(r">([^<>]+)</text>", svg)
    assert {"initializer token", "0.800 at step 10", "0", "20", "steps", "training loss"} <= set(texts)


def test_worse_embedding_and_single_validation_are_drawn():
    svg = curves([1.0, 1.5], [0.0, 0.1], [0.1] * 10)["wide"]
    (_, y0), (_, y1) = line(svg, "--accent")
    assert 0 < y1 < y0 < SIZES["wide"][1]
    assert "1.000 at step 0" in curves([1.0], [0.0], [0.1])["narrow"]


def test_svg_fits_into_the_page():
    first, again = (curves([1.0, 0.8], [0.1, 0.1], [0.1, math.nan, 0.2]) for _ in range(2))
    assert first == again
    assert not re.search(r"https?:|#[0-9a-f]{6}\b(?!\S*\")", first["wide"].replace("xlink:href", ""))
    ids = re.findall(r' id="([^"]+)"', "".join(first.values()))
    assert len(ids) == len(set(ids)), "both drawings are on one page"


def test_long_loss_is_averaged():
    loss = smooth(pd.DataFrame({"step": range(1, 4001), "loss": [0.5] * 2000 + [1.5] * 2000}))
    assert len(loss) == MOST_POINTS
    assert loss["step"].iloc[:2].tolist() == [3, 8]
    assert set(loss["loss"]) == {0.5, 1.5}


def test_scale_keeps_order_and_proportion():
    at = scale_positions({"initializer": 0.52, "word": 0.84, "real": 0.91})
    assert 0 < at["initializer"] < at["word"] < at["real"] < 100
    share = (at["word"] - at["initializer"]) / (at["real"] - at["initializer"])
    assert share == pytest.approx((0.84 - 0.52) / (0.91 - 0.52), abs=0.01)
