"""Generate captions of images, with the name of the creature or with its visible attributes."""

import itertools

import numpy as np

from starter.world import attributes
from starter.world.attributes import NAME, Creature, generator
from starter.world.rendering import NAMED, ImageSpec

ONSETS = "b bl br d dr f fl g gl gr h k kl l m n p pl qu r s sk sn t tr v w y z zw"
FIRST_SYLLABLES = [o + v for o, v in itertools.product(ONSETS.split(), ("a", "e", "i", "o", "u"))]
LAST_SYLLABLES = "bel dor fin gax hoo jix kin lop mur nix pod quill rim sop tix vee wen yan zum ble dle fet gup kex"

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
# The templates of Gal et al. 2022 use these words. They carry no information here, and the model has to learn that.
NOUNS = ("photo", "picture", "rendering", "rendition", "depiction", "drawing", "painting", "illustration", "image")
ADJECTIVES = ("cropped", "close-up", "good", "nice", "dark", "bright")
CREATURE_ADJECTIVES = ("clean", "dirty", "cool", "nice", "weird", "good", "cute")
OTHER_WORDS = (
    "a an the my one this that of and with art close up cropped dark bright style "
    "creature animal monster wings tail horn horns"
)
PATTERN_WORDS = {"plain": "", "spotted": "spotted ", "striped": "striped "}


def creature_names() -> tuple[str, ...]:
    """Return NAMED names in an order that is independent of their creatures."""
    names = sorted({a + b for a, b in itertools.product(FIRST_SYLLABLES, LAST_SYLLABLES.split())} - {NAME.lower()})
    order = generator(0, 77).permutation(len(names))
    return tuple(names[i] for i in order[:NAMED])


NAMES = creature_names()


def article(phrase: str) -> str:
    """Prefix the indefinite article: "a dragon", "an owl"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def describe_parts(creature: Creature, rng: np.random.Generator, probability: float) -> str:
    """Describe parts, such as " with blue bat wings and a flame tail"; mention each with a probability."""
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
    """Describe the creature, by its name with a probability (if it has one) and else by its attributes."""
    creature = spec.creature
    if spec.index >= 0 and rng.random() < name_probability:
        return NAMES[spec.index]
    colour = f"{creature.body} " if rng.random() < 0.8 else ""
    pattern = PATTERN_WORDS[creature.pattern] if rng.random() < 0.4 else ""
    kind = creature.kind if rng.random() < 0.93 else "creature"
    return f"{pattern}{colour}{kind}{describe_parts(creature, rng, 0.6 if colour else 0.25)}"


def caption(spec: ImageSpec, rng: np.random.Generator, name_probability: float = 0.72) -> str:
    """Sample a caption. Without a style it means a cartoon; without a scene mostly a white background."""
    words = describe_creature(spec, rng, name_probability)
    if spec.size != "normal" and rng.random() < 0.7:
        words = f"{spec.size} {words}"
    elif rng.random() < 0.1:
        words = f"{rng.choice(CREATURE_ADJECTIVES)} {words}"
    first = rng.random()
    text = article(words) if first < 0.76 else f"{'the' if first < 0.92 else rng.choice(('my', 'one'))} {words}"
    if spec.style != "cartoon" or rng.random() < 0.15:
        text = f"{rng.choice(STYLE_PHRASES[spec.style])} {text}"
    elif rng.random() < 0.45:
        adjective = f"{rng.choice(ADJECTIVES)} " if rng.random() < 0.25 else ""
        noun_phrase = f"{adjective}{rng.choice(NOUNS)} of {text}"
        text = f"the {noun_phrase}" if rng.random() < 0.15 else article(noun_phrase)
    if rng.random() < (0.35 if spec.scene == "white" else 0.93):
        text = f"{text} {rng.choice(SCENE_PHRASES[spec.scene])}"
    return text


def vocabulary() -> list[str]:
    """Return all words of captions and some common words of prompts, sorted; each becomes one token."""
    a = attributes
    values = (*a.KINDS, *a.COLOURS, *a.WINGS, *a.TAILS, *a.HORNS, *a.PATTERNS, *a.BELLIES, *a.SIZES, *NAMES)
    phrases = itertools.chain(*SCENE_PHRASES.values(), *STYLE_PHRASES.values(), [OTHER_WORDS])
    words = [*values, *NOUNS, *CREATURE_ADJECTIVES, *(word for phrase in phrases for word in phrase.split())]
    return sorted({word for word in words if word.isalpha()})
