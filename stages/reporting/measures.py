"""Explain the metrics: what each one measures, in one sentence, beside its floor and its ceiling."""

import math
from dataclasses import dataclass

ENCODERS = {"image": "CLIP", "dino": "DINO"}
# Key of the metric, its name, whether it is a share, what it means.
MEASURES = [
    ("similarity", "Likeness", False,
     "Mean similarity to the held-out images: the renders of the initializer token are the floor, real images among "
     "themselves the ceiling."),
    ("similarity_train", "Likeness to training images", False,
     "The same with the images that were trained on: hardly higher if the concept was learned and not the images."),
    ("similarity_gap_closed", "Gap closed", True,
     "The share of the way from the likeness of the initializer token's renders to that of real images."),
    ("gallery_recall", "Recognized", True,
     "Renders whose nearest image, among the held-out images and those of the other classes, is of the right class."),
    ("gallery_precision", "Ranked first", True,
     "How high the held-out images rank among all these images (mean average precision): 100 % if before all others."),
    ("copied", "Copies", True, "Renders that are much closer to a training image than to any held-out one."),
    ("diversity", "Variety", False,
     "Mean distance between renders of one prompt with different seeds, 0 if all are equal; for real images, between "
     "the training images."),
    ("tradeoff", "Tradeoff", True,
     "The geometric mean of the gap closed and of how well prompts are followed, relative to the initializer token: "
     "high only if both are."),
]  # fmt: skip
OF_PROMPTS = [
    ("prompt_similarity", "Follows the prompt", False,
     "Mean similarity to the prompt, by CLIP: as high as with the initializer token if the new one does not displace "
     "the rest of the prompt."),
    ("prompt_similarity_ratio", "Follows the prompt, relative", True,
     "The same as a share of that of the initializer token."),
]  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A value, and its 95% interval if there is one."""

    value: float
    low: float | None
    high: float | None

    def text(self, *, is_share: bool) -> str:
        """Return the measure's value as text; a share is in percent."""
        return _format(self.value, is_share)

    def interval(self, *, is_share: bool) -> str:
        """Return the measure's interval as text, which is empty if there is none."""
        return "" if self.low is None else f"{_format(self.low, is_share)} to {_format(self.high, is_share)}"


@dataclass(frozen=True)
class Measure:
    """A row of the table: the values by subject, and what they mean."""

    name: str
    values: dict[str, Value]
    is_share: bool
    sentence: str


def measures(estimates: dict[str, Value], subjects: list[str]) -> list[Measure]:
    """Return the measures that have values, with what they mean; `real` stands for real images.

    Measures that compare subjects have no subject in their name if it is `word`.
    """
    keys = [
        (f"{encoder}_{key}", f"{name}, {label}", is_share, sentence)
        for encoder, label in ENCODERS.items()
        for key, name, is_share, sentence in MEASURES
    ]
    rows = []
    for key, name, is_share, sentence in [*keys, *OF_PROMPTS]:
        names = {subject: f"{key}_{subject}" for subject in [*subjects, "real"]}
        if key in estimates:
            names["word"] = key
        values = {subject: estimates[name] for subject, name in names.items() if name in estimates}
        if values:
            chance = estimates.get(f"{key}_chance")
            guess = f" Guessing would give {chance.text(is_share=True)}." if chance else ""
            rows.append(Measure(name, values, is_share, sentence + guess))
    return rows


def _format(value: float, is_share: bool) -> str:
    text = f"{100 * value:.0f} %" if is_share else f"{value:.3f}"
    return text.replace("-", "−") if math.isfinite(value) else "–"
