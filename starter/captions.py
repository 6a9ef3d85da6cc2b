"""A picture => sentences that are true of it, by its creature's name or by what is seen."""

import itertools

import numpy as np

from starter.world.attributes import (
    BELLIES,
    COLOURS,
    HORNS,
    KINDS,
    NAME,
    PATTERNS,
    SIZES,
    TAILS,
    WINGS,
    Creature,
    generator,
)
from starter.world.rendering import NAMED, ImageSpec

ONSETS = "b bl br d dr f fl g gl gr h k kl l m n p pl qu r s sk sn t tr v w y z zw"
FIRST = [o + v for o, v in itertools.product(ONSETS.split(), ("a", "e", "i", "o", "u"))]
LAST = "bel dor fin gax hoo jix kin lop mur nix pod quill rim sop tix vee wen yan zum ble dle fet gup kex"

SCENE_PHRASES = {
    "white": ("on a white background", "on a plain background"),
    "sky": ("in the sky", "under a blue sky", "flying in the sky"),
    "sea": ("by the sea", "at the sea", "near the sea"),
    "night": ("at night", "in the night", "under the moon"),
    "sunset": ("at sunset", "in front of a sunset", "under a sunset sky"),
    "forest": ("in the forest", "in a forest", "among the trees"),
    "volcano": ("in front of a volcano", "near a volcano", "by the volcano"),
    "snow": ("in the snow", "in winter", "in falling snow"),
    "desert": ("in the desert", "in a desert", "near a cactus"),
    "meadow": ("in a meadow", "in the meadow", "among flowers"),
}
STYLE_PHRASES = {
    "cartoon": ("a cartoon of", "a cartoon drawing of", "a cartoon illustration of"),
    "pastel": ("a pastel drawing of", "a pastel painting of", "a pastel picture of"),
    "neon": ("a neon drawing of", "a neon picture of", "a glowing neon sign of"),
    "sketch": ("a sketch of", "a pencil sketch of", "a pencil drawing of"),
}
# The words of Gal et al.'s sentences mean nothing here, and the model must know that they do not.
NEUTRAL = ("photo", "picture", "rendering", "rendition", "depiction", "drawing", "painting", "illustration", "image")
ADJECTIVES = ("cropped", "close-up", "good", "nice", "dark", "bright")
QUALITIES = ("clean", "dirty", "cool", "nice", "weird", "good", "cute")
OTHER = "my the an one dark bright style creature animal monster and with wings tail horns horn art of this that , ."
PATTERN_WORDS = {"plain": "", "spotted": "spotted ", "striped": "striped "}


def creature_names() -> tuple[str, ...]:
    """=> the NAMED names, in an order that says nothing about their creatures."""
    pool = sorted({a + b for a, b in itertools.product(FIRST, LAST.split())} - {NAME.lower()})
    order = generator(0, 77).permutation(len(pool))
    return tuple(pool[i] for i in order[:NAMED])


NAMES = creature_names()


def article(phrase: str) -> str:
    """=> "a dragon", "an owl"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def describe_parts(creature: Creature, rng: np.random.Generator, probability: float) -> str:
    """=> " with blue bat wings and a flame tail", each part said with that probability."""
    phrases = []
    if rng.random() < probability:
        if creature.wings == "no":
            phrases.append("no wings")
        else:
            phrases.append(f"{creature.wing_colour} {creature.wings + ' ' if rng.random() < 0.6 else ''}wings")
    if creature.tail != "plain" and rng.random() < probability:
        phrases.append(article(f"{creature.tail} tail"))
    if creature.horns != "no" and rng.random() < probability * 0.5:
        phrases.append("two horns" if creature.horns == "two" else "one horn")
    return f" with {' and '.join(phrases)}" if phrases else ""


def describe_creature(spec: ImageSpec, rng: np.random.Generator, name_probability: float) -> str:
    """=> the creature in words, by its name (with that probability, if it has one) or by what is seen of it."""
    creature = spec.creature
    if spec.index >= 0 and rng.random() < name_probability:
        return NAMES[spec.index]
    colour = f"{creature.body} " if rng.random() < 0.8 else ""
    pattern = PATTERN_WORDS[creature.pattern] if rng.random() < 0.4 else ""
    kind = creature.kind if rng.random() < 0.93 else "creature"
    return f"{pattern}{colour}{kind}{describe_parts(creature, rng, 0.6 if colour else 0.25)}"


def caption(spec: ImageSpec, rng: np.random.Generator, name_probability: float = 0.72) -> str:
    """=> one sentence. Without a word of style it means a cartoon; without a place it is mostly a white background."""
    words = describe_creature(spec, rng, name_probability)
    if spec.size != "normal" and rng.random() < 0.7:
        words = f"{spec.size} {words}"
    elif rng.random() < 0.1:
        words = f"{rng.choice(QUALITIES)} {words}"
    first = rng.random()
    thing = article(words) if first < 0.76 else f"{'the' if first < 0.92 else rng.choice(('my', 'one'))} {words}"
    if spec.style != "cartoon" or rng.random() < 0.15:
        thing = f"{rng.choice(STYLE_PHRASES[spec.style])} {thing}"
    elif rng.random() < 0.45:
        manner = f"{rng.choice(ADJECTIVES)} " if rng.random() < 0.25 else ""
        work = f"{manner}{rng.choice(NEUTRAL)} of {thing}"
        thing = f"the {work}" if rng.random() < 0.15 else article(work)
    if rng.random() < (0.35 if spec.scene == "white" else 0.93):
        thing = f"{thing} {rng.choice(SCENE_PHRASES[spec.scene])}"
    return thing


def vocabulary() -> list[str]:
    """=> every word that a caption can hold, and the usual words of a prompt, sorted; each becomes one token."""
    phrases = [p for group in (*SCENE_PHRASES.values(), *STYLE_PHRASES.values()) for p in group]
    groups = (KINDS, COLOURS, WINGS, TAILS, HORNS, PATTERNS, BELLIES, SIZES, NEUTRAL, QUALITIES, NAMES, OTHER.split())
    found = itertools.chain(*groups, *(p.split() for p in phrases), ("cropped", "close", "up", "a"))
    return sorted({word for word in found if word.isalpha()})
