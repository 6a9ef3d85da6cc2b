"""Figures to sentences: honest either way."""

import pytest

from stages.reporting import sentences
from tests.reporting.conftest import FIGURES, TRAIN

WORD = {"vectors": 2, "width": 32, "bytes": 400}


def test_numbers_and_plurals():
    assert [sentences.plural(count, "picture") for count in (1, 7, 13, 1200)] == [
        *("one picture", "seven pictures", "13 pictures", "1,200 pictures")
    ]
    assert sentences.lead(7, 2, 384, True).startswith("Seven pictures taught an image model one new word.")
    assert sentences.lead(7, 2, 384, False).startswith("Seven pictures were to teach an image model one new word.")
    assert "768 numbers" in sentences.lead(7, 2, 384, True)


def test_what_was_learnt_is_said_and_what_was_not_as_well():
    said = sentences.verdict(TRAIN, "dragon")
    assert said["learnt"]
    assert "11.7\u00a0% (± 0.8) below that with “dragon”" in said["text"]
    assert "at step 40 of 60; training stopped by itself" in said["text"]
    flat = sentences.verdict(TRAIN | {"learnt": False, "fall_percent": 0.01, "fall_stderr_percent": 0.02}, "dragon")
    assert flat["text"].startswith("It was not.")
    assert "0.01\u00a0% (± 0.02) below" in flat["text"]
    worse = sentences.verdict(TRAIN | {"learnt": False, "fall_percent": -3.0}, "dragon")
    assert "3.0\u00a0% (± 0.8) above" in worse["text"]


@pytest.mark.parametrize(("fall", "shown"), [(11.74, "−11.7\u00a0%"), (-3.04, "+3.0\u00a0%")])
def test_the_error_falls_or_rises(fall: float, shown: str):
    tiles = sentences.tiles(FIGURES | _errors(), TRAIN | {"fall_percent": fall}, WORD, "dragon")
    assert next(tile["value"] for tile in tiles if tile["name"] == "Denoising error") == shown


def test_tiles_say_what_is_known_and_leave_out_what_is_not():
    tiles = {tile["name"]: tile for tile in sentences.tiles(FIGURES | _errors(), TRAIN, WORD, "dragon")}
    assert list(tiles) == ["Likeness", "Denoising error", "Prompt", "Learnt"]
    assert (tiles["Likeness"]["value"], tiles["Likeness"]["error"]) == ("82\u00a0%", "± 1")
    assert (tiles["Learnt"]["value"], tiles["Learnt"]["note"]) == ("64", "two vectors of 32, in a file of 400 bytes")
    without = {key: value for key, value in FIGURES.items() if key != "recovered_share"}
    assert "Likeness" not in {tile["name"] for tile in sentences.tiles(without | _errors(), TRAIN, WORD, "dragon")}


def test_the_scale_keeps_order_and_proportion():
    marks = {mark["kind"]: mark["at"] for mark in sentences.scale(FIGURES, "dragon", "<critter>")}
    assert 0 < marks["known"] < marks["word"] < marks["real"] < 100
    way = (marks["word"] - marks["known"]) / (marks["real"] - marks["known"])
    assert way == pytest.approx((0.84 - 0.52) / (0.91 - 0.52), abs=0.01)


def _errors() -> dict[str, float]:
    return {f"{key}_stderr": 0.01 for key in FIGURES}
