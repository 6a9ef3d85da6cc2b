"""The curves as they are drawn."""

import math
import re

import pandas as pd
import pytest

from stages.reporting.charts import (
    COLORS,
    MOST_POINTS,
    SIZES,
    Panel,
    scale_positions,
    smooth,
    snapshot_curves,
    training_curves,
)


def curves(relative: list[float], loss: list[float]) -> dict[str, str]:
    stderr = [0.1] * len(relative)
    validation = pd.DataFrame({"step": range(0, 10 * len(relative), 10), "relative": relative, "stderr": stderr})
    return training_curves(validation, pd.DataFrame({"step": range(1, len(loss) + 1), "loss": loss}))


@pytest.mark.parametrize(
    ("relative", "best"),
    [([1.0, 0.8, 0.9], "0.800 at step 10"), ([1.0, 1.5], "1.000 at step 0"), ([1.0], "1.000 at step 0")],
    ids=["better", "worse", "one validation"],
)
def test_best_step_and_reference_are_marked_within_the_drawing(relative: list[float], best: str):
    drawn = curves(relative, [0.1, math.nan, 0.2])
    assert drawn == curves(relative, [0.1, math.nan, 0.2])
    for name, (width, height) in SIZES.items():
        texts = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>([^<>]+)</text>', drawn[name])
        assert {"initializer token", best, "steps", "training loss"} <= {text for *_, text in texts}
        assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y, _ in texts)


def snapshots(*values: float) -> dict[str, str]:
    rows = [(10 * step, value, value - 0.1, value + 0.1) for step, value in enumerate(values)]
    table = pd.DataFrame(rows, columns=["step", "value", "low", "high"])
    table.loc[0, ["low", "high"]] = math.nan
    return snapshot_curves([Panel("likeness", table, [0.95], 0), Panel("prompt", table, [], 0)])


@pytest.mark.parametrize("values", [(0.2, 0.5, 0.9), (0.5,), (0.5, 0.5)])
def test_panels_of_snapshots_are_within_the_drawing(values: tuple):
    drawn = snapshots(*values)
    assert drawn == snapshots(*values)
    for name, (width, height) in SIZES.items():
        texts = re.findall(r'x="([\d.-]+)" y="([\d.-]+)"[^>]*>([^<>]+)</text>', drawn[name])
        assert {"likeness", "prompt", f"{values[0]:.3f}", "steps"} <= {text for *_, text in texts}
        assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y, _ in texts)


def test_drawings_take_colors_from_the_page_and_share_no_ids():
    svg = "".join([*curves([1.0, 0.8], [0.1, 0.2]).values(), *snapshots(0.2, 0.5).values()])
    assert set(re.findall(r"var\((--\w+)\)", svg)) == set(COLORS)
    assert not re.search(r"(fill|stroke): #", svg)
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(ids) == len(set(ids))


def test_long_loss_is_averaged():
    loss = smooth(pd.DataFrame({"step": range(1, 4001), "loss": [0.5] * 2000 + [1.5] * 2000}))
    assert len(loss) == MOST_POINTS
    assert loss["step"].iloc[:2].tolist() == [3, 8]
    assert set(loss["loss"]) == {0.5, 1.5}


def test_scale_keeps_proportion():
    assert scale_positions({"a": 0.0, "b": 0.5, "c": 1.0}) == {"a": 9.7, "b": 50.0, "c": 90.3}
    assert scale_positions({"a": 2.0}) == {"a": 50.0}
