"""The attributes of an image as class labels, for the attribute classifier and the heads of the recipe."""

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
    """Return the value of each attribute group of an image."""
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
    """Return the index of each value in its group, in the order of GROUPS."""
    return [GROUPS[group].index(value) for group, value in attribute_values(spec).items()]
