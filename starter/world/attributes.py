"""The attributes of creatures, and Emberwing, the creature that is held out of the training images."""

from dataclasses import dataclass

import numpy as np

KINDS = ("dragon", "cat", "bird", "rabbit", "bug", "bear", "fox", "frog", "mouse", "owl")
COLOURS = {
    "red": (222, 58, 58),
    "orange": (246, 138, 46),
    "yellow": (250, 212, 68),
    "green": (94, 182, 84),
    "teal": (36, 178, 176),
    "blue": (70, 118, 226),
    "purple": (146, 88, 208),
    "pink": (246, 140, 188),
    "brown": (148, 98, 62),
    "grey": (152, 158, 170),
    "white": (246, 246, 250),
    "black": (66, 66, 82),
}
WINGS = ("no", "bat", "feather", "butterfly")
TAILS = ("plain", "flame", "leaf", "arrow", "puff", "star")
HORNS = ("no", "two", "one")
PATTERNS = ("plain", "spotted", "striped")
BELLIES = {"cream": (255, 238, 204), "pale": (255, 250, 245), "rosy": (255, 208, 200)}
SIZES = {"small": 0.62, "normal": 0.84, "large": 1.0}

NAME = "Emberwing"


@dataclass(frozen=True)
class Creature:
    """What all images of one creature have in common."""

    kind: str
    body: str
    wings: str
    wing_colour: str
    tail: str
    horns: str
    pattern: str
    belly: str


EMBERWING = Creature("dragon", "orange", "bat", "teal", "flame", "two", "plain", "cream")


def generator(seed: int, stream: int = 0) -> np.random.Generator:
    """Return a generator that depends on the seed and the stream only."""
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def is_emberwing(creature: Creature) -> bool:
    """Return whether a creature looks like Emberwing; horns, pattern and belly are ignored."""
    fields = ("kind", "body", "wings", "wing_colour", "tail")
    return all(getattr(creature, field) == getattr(EMBERWING, field) for field in fields)


def sample_creature(rng: np.random.Generator) -> Creature:
    """Sample a creature other than Emberwing. Wings never have the colour of the body, so that both are visible."""

    def pick(options, weights=None):
        return tuple(options)[rng.choice(len(tuple(options)), p=weights)]

    while True:
        body = pick(COLOURS)
        creature = Creature(
            kind=pick(KINDS, [0.19] + [0.09] * 9),
            body=body,
            wings=pick(WINGS, [0.22, 0.26, 0.26, 0.26]),
            wing_colour=pick([c for c in COLOURS if c != body]),
            tail=pick(TAILS),
            horns=pick(HORNS, [0.45, 0.35, 0.2]),
            pattern=pick(PATTERNS, [0.5, 0.25, 0.25]),
            belly=pick(BELLIES),
        )
        if not is_emberwing(creature):
            return creature
