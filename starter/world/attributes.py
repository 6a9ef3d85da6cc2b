"""Seed => creature: what a creature is made of, and which one is never drawn for training."""

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
    """What stays the same in every picture of one creature."""

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
    """(seed, stream) => a generator of its own: no state is shared, nothing global is touched."""
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def is_emberwing(creature: Creature) -> bool:
    """=> whether it could pass for the creature to be learnt, whatever its horns, pattern and belly."""
    return (creature.kind, creature.body, creature.wings, creature.wing_colour, creature.tail) == (
        EMBERWING.kind,
        EMBERWING.body,
        EMBERWING.wings,
        EMBERWING.wing_colour,
        EMBERWING.tail,
    )


def sample_creature(rng: np.random.Generator) -> Creature:
    """Any creature but the one to be learnt. Wings never have the body's colour, so that both can be read."""

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
