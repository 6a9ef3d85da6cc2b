"""A row's numbers => usable or not, why, and how good."""

import math
from collections.abc import Iterator

from stages.images.quality.background import FRAMED
from stages.images.quality.params import Filter

TERMS = {"size": 1.0, "sharp": 2.0, "clean": 1.5, "plain": 2.0, "share": 1.5, "whole": 1.5, "typical": 1.5}


def reason(row: dict, filter: Filter) -> str:
    """A row => the first reason to reject it, or "". From what is surest (no picture) to what is judged (its class)."""
    return next(_reasons(row, filter), "")


def _reasons(row: dict, filter: Filter) -> Iterator[str]:
    if row["problem"]:
        yield row["problem"]
        return
    shorter, longer = sorted((row["width"], row["height"]))
    if shorter < filter.min_side_px:
        yield f"small: {shorter} px, less than {filter.min_side_px}"
    if longer > filter.max_aspect * shorter:
        yield f"long: {longer / shorter:.1f} times as long as wide"
    if row["contrast"] < filter.min_contrast:
        yield f"empty: {row['contrast']:.0f} grey levels"
    if row["sharpness"] < filter.min_sharpness:
        yield f"blurred: sharpness {row['sharpness']:.2f}"
    if (row["jpeg_quality"] or 100) < filter.min_jpeg_quality:
        yield f"blocky: JPEG quality {row['jpeg_quality']}"
    if row["blocking"] > filter.max_blocking:
        yield f"blocky: {row['blocking']:.1f}"
    if row["noise"] > filter.max_noise:
        yield f"noisy: {row['noise']:.0f} grey levels"
    if _cut(row, filter):
        yield f"cut off: {row['frame_contact']:.1f} sides"
    if row["watermark_shapes"] > filter.max_watermark_shapes:
        yield f"marked: {row['watermark_shapes']} letters"
    if row["class_distance"] is not None and row["class_distance"] > filter.max_class_distance:
        yield f"off-class: {row['class_distance']:.1f} deviations"


def terms(row: dict, filter: Filter) -> dict[str, float]:
    """A row with a picture => each term of its quality, 0..1 (docs/data.md).

    size: its shorter side, on a scale of logarithms, up to four times the least; sharp: the sharpness, full from 0.5
    (an edge of two pixels); clean: free of blocking and noise; plain: how plain the border is; share: how near the
    subject's part of the picture is to one to two thirds; whole: how little of the frame's sides the subject covers,
    none from half of what is rejected on; typical: how near it is to others of its class. What cannot be known (a
    subject without plain border, a class of too few) counts as half.
    """
    shorter = min(row["width"], row["height"])
    share = row["subject_share"]
    framed = _framed(row)
    distance, touching = row["class_distance"], row["frame_contact"]
    return {
        "size": _part(math.log2(max(shorter / filter.min_side_px, 1)) / 2),
        "sharp": _part(row["sharpness"] / 0.5),
        "clean": _part(1 - row["blocking"] / filter.max_blocking) * _part(1 - row["noise"] / filter.max_noise),
        "plain": row["border_plain"],
        "share": _part(min(share / 0.3, (1 - share) / 0.3)) if framed else 0.5,
        "whole": _part(1 - 2 * touching / filter.max_frame_contact) if framed and touching is not None else 0.5,
        "typical": 0.5 if distance is None else _part(1 - distance / filter.max_class_distance),
    }


def score(parts: dict[str, float]) -> float:
    """Terms => their weighted mean, 0..1."""
    return round(sum(weight * parts[name] for name, weight in TERMS.items()) / sum(TERMS.values()), 4)


def _framed(row: dict) -> bool:
    """Whether the border is plain enough to tell the subject from it."""
    return row["border_plain"] >= FRAMED


def _cut(row: dict, filter: Filter) -> bool:
    """Whether the subject leaves the frame, as far as a flat ground lets one say."""
    return (
        row["frame_contact"] is not None
        and row["border_flat"] >= FRAMED
        and row["frame_contact"] > filter.max_frame_contact
    )


def _part(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 4)
