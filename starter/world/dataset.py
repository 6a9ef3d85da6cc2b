"""Build the class folder of a creature: 52 files with the defects of downloaded datasets, and the ground truth.

Other creatures have class folders of a few clean images.
"""

import hashlib
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from starter.captions import NAMES
from starter.world import defects
from starter.world.attributes import EMBERWING, NAME, Creature, generator, sample_creature
from starter.world.creatures import Pose
from starter.world.rendering import ImageSpec, named_creature, render
from starter.world.scenes import draw_background

STREAM, IMAGE_STREAM = 11, 12
OTHERS, IMAGES_EACH = 24, 4  # classes beside the one with defects, and their images
# How many files of a class have which defect.
USABLE = ("clean", "transparent", "rotated", "misnamed")
COUNTS = {
    "clean": 20,
    "transparent": 3,
    "rotated": 3,
    "misnamed": 3,
    "blurred": 4,
    "tiny": 2,
    "blocky": 3,
    "cropped": 2,
    "noisy": 2,
    "watermarked": 2,
    "duplicate": 3,
    "off-class": 3,
    "truncated": 1,
    "unreadable": 1,
}
SCENES = ("white",) * 7 + ("sky", "meadow", "snow")
DEFECT_SCENES = {
    "transparent": "white",
    "blocky": "meadow",
}  # a white background can be cut out; a textured one shows blocks
# Wing, arms, tail, stride and tilt of each pose; each is drawn facing left and right.
POSES = {
    "gliding": (-0.05, 0.9, 0.25, 0.09, 0.24),
    "rising": (-0.66, -0.4, -0.15, 0.0, -0.1),
    "standing": (-0.3, 0.1, 0.05, 0.0, 0.0),
    "greeting": (-0.5, 1.2, 0.1, 0.03, 0.14),
    "walking": (0.12, 0.3, 0.35, 0.12, -0.12),
    "leaning": (-0.25, -0.8, -0.25, 0.05, -0.3),
    "diving": (-0.6, 0.7, 0.4, 0.1, 0.34),
    "resting": (0.2, -0.9, -0.3, 0.1, 0.05),
    "turning": (-0.1, -0.2, 0.0, 0.02, -0.2),
    "jumping": (-0.4, 0.6, -0.1, 0.12, 0.05),
}


@dataclass(frozen=True)
class Truth:
    """The ground truth of a file: `defect` is a key of COUNTS; a duplicate names the file that it copies."""

    usable: bool
    defect: str
    pose: str
    scene: str
    copy_of: str = ""


def creature_of(name: str, seed: int = 0) -> Creature:
    """Return the creature of a class: Emberwing for its own name, another creature for any other name."""
    return EMBERWING if name == NAME else sample_creature(generator(zlib.crc32(name.encode()) + seed, STREAM))


def build(folder: Path, name: str = NAME, seed: int = 0) -> None:
    """Write 52 files into `folder/name`; equal names and seeds give equal bytes."""
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    for file, content, _ in _files(name, seed):
        (target / file).write_bytes(content)


def build_others(folder: Path) -> None:
    """Write a few clean images of other creatures that have a name, each creature in a class folder of its own."""
    for index, name in enumerate(NAMES[:OTHERS]):
        target = Path(folder) / name.capitalize()
        target.mkdir(parents=True)
        for number in range(IMAGES_EACH):
            rng = generator(zlib.crc32(f"{name} {number}".encode()), IMAGE_STREAM)
            image, _, _ = _draw_image(named_creature(index), number, "clean", rng)
            content, extension = defects.clean(image, rng)
            (target / f"{number}.{extension}").write_bytes(content)


def truth(name: str = NAME, seed: int = 0) -> dict[str, Truth]:
    """Return the ground truth of each file that `build` writes, by file name."""
    return {file: row for file, _, row in _files(name, seed)}


def _files(name: str, seed: int) -> list[tuple[str, bytes, Truth]]:
    """Return the name, content and ground truth of each file, sorted by name."""
    creature = creature_of(name, seed)
    rows, originals = [], []
    for number, defect in enumerate(d for d, count in COUNTS.items() for _ in range(count)):
        rng = generator(zlib.crc32(f"{name} {seed} {number}".encode()), IMAGE_STREAM)
        copy_of = ""
        if defect == "off-class":
            image, pose, scene = _draw_off_class(creature, number, rng), "", ""
        elif defect == "duplicate":
            copy_of, image, pose, scene = originals[5 * (number % 4)]
        else:
            image, pose, scene = _draw_image(creature, number, defect, rng)
        encode = defects.clean if defect == "off-class" else getattr(defects, defect)
        content, extension = encode(image, rng)
        file = f"{hashlib.sha256(f'{name} {seed} {number}'.encode()).hexdigest()[:32]}.{extension}"
        if defect == "clean":
            originals.append((file, image, pose, scene))
        rows.append((file, content, Truth(defect in USABLE, defect, pose, scene, copy_of)))
    return sorted(rows, key=lambda row: row[0])


def _draw_image(creature: Creature, number: int, defect: str, rng) -> tuple[Image.Image, str, str]:
    """Draw the creature in one of twenty poses, mostly on white; return the image, the pose and the scene."""
    pose = list(POSES)[number % 10]
    mirror = bool(number // 10 % 2)
    wing, arms, tail, stride, tilt = np.array(POSES[pose]) + rng.normal(0, (0.04, 0.08, 0.04, 0.005, 0.02))
    spec = ImageSpec(
        creature=creature,
        scene=DEFECT_SCENES.get(defect) or SCENES[rng.integers(len(SCENES))],
        style="cartoon",
        size="large" if number < 20 else "normal",
        pose=Pose(mirror, tilt, wing, arms, tail, rng.uniform(-0.15, 0.15), rng.random() < 0.12, max(0.0, stride)),
        seed=int(rng.integers(2**31)),
    )
    side = int(rng.choice((216, 240, 256, 256, 300, 320, 400)))
    return render(spec, side), f"{pose} {'left' if mirror else 'right'}", spec.scene


def _draw_off_class(creature: Creature, number: int, rng) -> Image.Image:
    """Draw an image that does not belong to the class: another creature, an empty scene, or a page of text."""
    pose = Pose(mirror=False, tilt=0.0, wing=-0.3, arms=0.2, tail=0.0, head=0.0, blink=False, stride=0.0)
    spec = ImageSpec(sample_creature(rng), "meadow", "cartoon", "normal", pose, number)
    if number % 3 == 0:
        while spec.creature.kind in (creature.kind, "dragon") or spec.creature.body == creature.body:
            spec = replace(spec, creature=sample_creature(rng))
        return render(spec, 256)
    if number % 3 == 1:
        return draw_background("forest", "cartoon", 512, rng).reduce(2)
    image = Image.new("RGB", (256, 256), (226, 40, 60))
    draw = ImageDraw.Draw(image)
    draw.rectangle((24, 40, 232, 216), (250, 250, 246), (30, 30, 40), 6)
    for row in range(6):
        draw.rectangle((44, 62 + 24 * row, 212 - 31 * (row % 3), 72 + 24 * row), (70, 70, 90))
    return image
