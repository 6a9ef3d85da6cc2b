"""Judge an image by its measurements: the reason to reject it, and the score to rank it."""

import math

from stages.images.quality.background import FRAMED
from stages.images.quality.params import Filter

WEIGHTS = {"size": 1.0, "sharp": 2.0, "clean": 1.5, "plain": 2.0, "share": 1.5, "margin": 1.5, "similar": 1.5}
TEXTURED = 12  # grey levels of noise, texture included, from which an image is not clean
AT_LEAST, AT_MOST = "at least {:g} needed", "at most {:g} allowed"


def reject(row: dict, params: Filter) -> tuple[str, str]:
    """Return the first reason to reject a row of the manifest and its detail, or two empty strings."""
    if not row["phash"]:
        return row["reason"], row["detail"]
    shorter, longer = sorted((row["width"], row["height"]))
    contact = row["frame_contact"] or 0 if row["border_flat"] >= FRAMED else 0
    rules = (
        ("too-small", "{} px", shorter, AT_LEAST, params.min_side_px),
        ("too-long", "aspect ratio {}", longer / shorter, AT_MOST, params.max_aspect),
        ("blank", "contrast {}", row["contrast"], AT_LEAST, params.min_contrast),
        ("blurred", "sharpness {}", row["sharpness"], AT_LEAST, params.min_sharpness),
        ("jpeg-artifacts", "JPEG quality {}", row["jpeg_quality"] or 100, AT_LEAST, params.min_jpeg_quality),
        ("jpeg-artifacts", "blocking {}", row["blocking"], AT_MOST, params.max_blocking),
        ("noisy", "noise {}", row["flat_noise"], AT_MOST, params.max_noise),
        ("cut-off", "{} sides covered", contact, AT_MOST, params.max_frame_contact),
        ("watermark", "{} letters", row["watermark_shapes"], AT_MOST, params.max_watermark_shapes),
        ("off-class", "class distance {}", row["class_distance"] or 0, AT_MOST, params.max_class_distance),
    )
    for reason, measured, value, bound, limit in rules:
        if value < limit if bound == AT_LEAST else value > limit:
            return reason, f"{measured.format(f'{value:.4g}')}, {bound.format(limit)}"
    if row["nearest_class"] not in (None, row["file"].partition("/")[0]):
        return "off-class", f"nearer to {row['nearest_class']}"
    return "", ""


def quality(row: dict, params: Filter) -> dict[str, float]:
    """Return the terms of the score, 0 to 1 each (docs/data.md), and the score, their weighted mean.

    A file without an image has 0. What is unknown counts as half: the subject's terms without a plain border, and
    `similar` in a class of too few images.
    """
    if not row["phash"]:
        return dict.fromkeys([*(f"q_{name}" for name in WEIGHTS), "score"], 0.0)
    share, contact, distance = row["subject_share"], row["frame_contact"], row["class_distance"]
    framed = row["border_plain"] >= FRAMED
    terms = {
        "size": math.log2(max(min(row["width"], row["height"]) / params.min_side_px, 1)) / 2,
        "sharp": row["sharpness"] / 0.5,  # full for an edge of two pixels
        "clean": max(1 - row["blocking"] / params.max_blocking, 0) * max(1 - row["noise"] / TEXTURED, 0),
        "plain": row["border_plain"],
        "share": min(share / 0.3, (1 - share) / 0.3) if framed else 0.5,  # full from one to two thirds of the image
        "margin": 1 - 2 * contact / params.max_frame_contact if framed and contact is not None else 0.5,
        "similar": 1 - distance / params.max_class_distance if distance is not None else 0.5,
    }
    terms = {name: round(min(max(value, 0.0), 1.0), 4) for name, value in terms.items()}
    score = sum(weight * terms[name] for name, weight in WEIGHTS.items()) / sum(WEIGHTS.values())
    return {f"q_{name}": value for name, value in terms.items()} | {"score": round(score, 4)}
