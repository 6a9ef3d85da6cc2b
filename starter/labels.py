"""A picture's attributes as numbers: what the classifier heads of the recipe learn and what the reader reads."""

from starter.world.attributes import COLOURS, HORNS, KINDS, PATTERNS, SIZES, TAILS, WINGS
from starter.world.drawing import STYLES
from starter.world.rendering import ImageSpec
from starter.world.scenes import SCENES

CREATURE_GROUPS = {
    "kind": KINDS,
    "body": tuple(COLOURS),
    "wings": WINGS,
    "wing_colour": (*COLOURS, "none"),
    "tail": TAILS,
    "horns": HORNS,
    "pattern": PATTERNS,
}
GROUPS = {**CREATURE_GROUPS, "size": tuple(SIZES), "scene": SCENES, "style": STYLES}


def attribute_values(spec: ImageSpec) -> dict[str, str]:
    """=> what each group says of the picture, in words."""
    creature = spec.creature
    return {
        "kind": creature.kind,
        "body": creature.body,
        "wings": creature.wings,
        "wing_colour": "none" if creature.wings == "no" else creature.wing_colour,
        "tail": creature.tail,
        "horns": creature.horns,
        "pattern": creature.pattern,
        "size": spec.size,
        "scene": spec.scene,
        "style": spec.style,
    }


def labels(spec: ImageSpec) -> list[int]:
    """=> the same as numbers, in the order of GROUPS."""
    said = attribute_values(spec)
    return [GROUPS[group].index(said[group]) for group in GROUPS]
