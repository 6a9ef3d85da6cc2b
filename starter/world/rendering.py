"""Specify and render images of the world: a creature in a scene, in a style."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from starter.world.attributes import SIZES, Creature, generator, sample_creature
from starter.world.creatures import Pose, draw_creature, sample_pose
from starter.world.drawing import STYLES, Pen
from starter.world.scenes import SCENES, draw_background

SIDE = 128  # px
NAMED = 3000  # creatures that have a name
SPEC_STREAM, UNNAMED_STREAM, NAMED_STREAM, RENDER_STREAM = 1, 2, 3, 4


@dataclass(frozen=True)
class ImageSpec:
    """What an image shows, and the seed of everything that the fields leave open."""

    creature: Creature
    scene: str
    style: str
    size: str
    pose: Pose
    seed: int
    index: int = -1  # of the creature's name; -1 for a creature without a name


def named_creature(index: int) -> Creature:
    """Return the creature of the name with this index."""
    return sample_creature(generator(index, NAMED_STREAM))


def sample_spec(seed: int) -> ImageSpec:
    """Sample an image of the training distribution; two thirds show a creature that has a name."""
    rng = generator(seed, SPEC_STREAM)
    index = int(rng.integers(NAMED)) if rng.random() < 0.66 else -1
    return ImageSpec(
        creature=named_creature(index) if index >= 0 else sample_creature(generator(seed, UNNAMED_STREAM)),
        scene=SCENES[rng.choice(len(SCENES), p=[0.28] + [0.08] * 9)],
        style=STYLES[rng.choice(len(STYLES), p=[0.58, 0.14, 0.14, 0.14])],
        size=tuple(SIZES)[rng.choice(3, p=[0.16, 0.64, 0.2])],
        pose=sample_pose(rng),
        seed=seed,
        index=index,
    )


def render(spec: ImageSpec, side: int = SIDE) -> Image.Image:
    """Render an RGB image of `side` px, drawn larger and averaged down; the widest wings just fit in."""
    rng = generator(spec.seed, RENDER_STREAM)
    factor = 3 if side <= SIDE else 2
    canvas = side * factor
    image = draw_background(spec.scene, spec.style, canvas, rng)
    unit = 0.445 * SIZES[spec.size] * canvas
    margin = max(0.5 - 0.47 * SIZES[spec.size], 0.015)
    x, y = rng.uniform(-1, 1) * margin, rng.uniform(-0.6, 1) * margin
    centre = ((0.5 + x) * canvas, (0.57 + y) * canvas)
    pen = Pen(image, spec.style, centre, unit, spec.pose.tilt, mirror=spec.pose.mirror)
    draw_creature(pen, spec.creature, spec.pose)
    return image.reduce(factor)


def pixels(seed: int) -> np.ndarray:
    """Render `sample_spec(seed)` as a uint8 array of 128 x 128 x 3."""
    return np.asarray(render(sample_spec(seed)))
