"""Numbers to drawings: known answers."""

import math

import pytest

from stages.reporting.charts import Frame, loss, objective, ticks


def pairs(points: str) -> list[tuple[float, float]]:
    return [tuple(float(number) for number in pair.split(",")) for pair in points.split()]


def test_a_frame_turns_values_into_percent():
    frame = Frame(0, 200, 1.0, 3.0)
    assert (frame.x(0), frame.x(50), frame.x(200)) == (0, 25, 100)
    assert (frame.y(3.0), frame.y(2.5), frame.y(1.0)) == (0, 25, 100)
    assert Frame(0, 0, 1, 1).x(0) == Frame(0, 0, 1, 1).y(1) == 0


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 400, [0, 100, 200, 300, 400]),
        (0, 2000, [0, 500, 1000, 1500, 2000]),
        (0.873, 1.01, [0.9, 0.95, 1.0]),
        (-0.3, 0.3, [-0.2, 0.0, 0.2]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, wanted: list[float]):
    assert ticks(low, high, 4) == pytest.approx(wanted)


def test_the_objective_is_drawn_to_scale():
    drawn = objective([0, 10, 20], [1.0, 0.8, 0.9], [0.0, 0.02, 0.02])
    line = pairs(drawn["line"])
    assert [x for x, _ in line] == [0, 50, 100]
    assert drawn["one"] == line[0][1] < line[2][1] < line[1][1]
    assert (drawn["best"]["x"], drawn["best"]["y"], drawn["best"]["step"]) == (50, line[1][1], 10)
    assert line[2][1] == pytest.approx((line[0][1] + line[1][1]) / 2, abs=0.02)
    band = pairs(drawn["band"])
    assert len(band) == 6
    assert all(0 <= y <= 100 for _, y in band)
    assert band[1][1] < line[1][1] < band[4][1]
    assert [label for _, label in drawn["xticks"]] == ["0", "5", "10", "15", "20"]
    assert all(0 <= at <= 100 and 0.7 < float(label) < 1.1 for at, label in drawn["yticks"])


def test_a_word_that_got_worse_and_one_evaluation_are_drawn_too():
    worse = objective([0, 10], [1.0, 1.5], [0.0, 0.1])
    assert 0 < pairs(worse["line"])[1][1] < worse["one"] < 100
    assert pairs(objective([0], [1.0], [0.0])["line"]) == [(0, pytest.approx(50, abs=1))]


def test_a_long_loss_is_averaged_and_gaps_are_left_out():
    drawn = loss(list(range(1, 4001)), [0.5] * 2000 + [1.5] * 2000)
    line = pairs(drawn["line"])
    assert len(line) == 800
    assert drawn["every"] == 5
    assert {y for _, y in line} == {0, 100}
    assert len(pairs(loss([1, 2, 3], [1.0, math.nan, 2.0])["line"])) == 2
