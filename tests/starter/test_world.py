"""The world: the same from the same seed, true to its captions, and without the creature that is to be learnt."""

import numpy as np
import pytest
import torch

from starter import attribute_classifier
from starter.captions import NAMES, SCENE_PHRASES, STYLE_PHRASES, caption, vocabulary
from starter.labels import GROUPS, attribute_values, labels
from starter.tokenizer import train_tokenizer
from starter.world.attributes import (
    COLOURS,
    EMBERWING,
    KINDS,
    NAME,
    TAILS,
    WINGS,
    generator,
    is_emberwing,
    sample_creature,
)
from starter.world.creatures import sample_pose
from starter.world.drawing import STYLES, catmull_rom, ellipse, mix, rotate
from starter.world.rendering import NAMED, ImageSpec, named_creature, pixels, render, sample_spec
from starter.world.scenes import SCENES


def test_a_seed_is_a_picture():
    assert np.array_equal(pixels(5), pixels(5))
    assert not np.array_equal(pixels(5), pixels(6))
    assert pixels(5).shape == (128, 128, 3)


def test_the_creature_to_be_learnt_is_never_drawn():
    assert not any(is_emberwing(named_creature(i)) for i in range(NAMED))
    assert not any(is_emberwing(sample_creature(generator(i, 3))) for i in range(3000))
    assert not any(is_emberwing(sample_spec(i).creature) for i in range(3000))
    assert NAME.lower() not in NAMES
    assert NAME.lower() not in vocabulary()


def test_but_all_that_it_is_made_of_is():
    creatures = [named_creature(i) for i in range(NAMED)]
    for a, b in (
        ("kind", "body"),
        ("body", "wing_colour"),
        ("wings", "wing_colour"),
        ("body", "tail"),
        ("kind", "tail"),
    ):
        pair = (getattr(EMBERWING, a), getattr(EMBERWING, b))
        assert any((getattr(c, a), getattr(c, b)) == pair for c in creatures), (a, b)


def test_wings_can_be_told_from_the_body():
    assert all(c.body != c.wing_colour for c in map(named_creature, range(500)))


def test_captions_are_true():
    for seed in range(600):
        spec = sample_spec(seed)
        said = f" {caption(spec, generator(seed, 9), name_probability=0.0)} "
        for kind in KINDS:
            assert f" {kind} " not in said or spec.creature.kind == kind
        for style, phrases in STYLE_PHRASES.items():
            assert not any(phrase in said for phrase in phrases) or spec.style == style
        for scene, phrases in SCENE_PHRASES.items():
            assert not any(f" {phrase} " in said for phrase in phrases) or spec.scene == scene
        for tail in TAILS:
            assert f" {tail} tail" not in said or spec.creature.tail == tail
        for wings in WINGS[1:]:
            assert f" {wings} wings" not in said or spec.creature.wings == wings
        for size in ("small", "large"):
            assert f" {size} " not in said or spec.size == size


def test_a_name_belongs_to_one_creature():
    named = [sample_spec(seed) for seed in range(4000)]
    named = [spec for spec in named if spec.index >= 0]
    assert len(named) > 2400
    assert all(spec.creature == named_creature(spec.index) for spec in named)
    assert len(set(NAMES)) == NAMED
    spec = named[0]
    assert NAMES[spec.index] in caption(spec, generator(0, 9), name_probability=1.0).split()


def test_words_are_single_tokens_and_a_placeholder_is_not():
    tokenizer = train_tokenizer(vocabulary())
    assert all(len(tokenizer.tokenize(word)) == 1 for word in vocabulary())
    assert len(tokenizer.tokenize("<emberwing>")) > 1
    assert len(tokenizer.tokenize(NAME.lower())) > 1
    long = max((caption(sample_spec(i), generator(i, 9)) for i in range(400)), key=lambda text: len(text.split()))
    assert len(tokenizer(long).input_ids) <= tokenizer.model_max_length


def test_labels_say_what_values_say():
    spec = sample_spec(3)
    assert [GROUPS[g][i] for g, i in zip(GROUPS, labels(spec), strict=True)] == list(attribute_values(spec).values())


@pytest.mark.parametrize("style", STYLES)
def test_scene_and_style_change_the_picture_but_the_reader_sees_the_same_creature(style: str):
    eyes = attribute_classifier.load()
    specs = [
        ImageSpec(EMBERWING, scene, style, "large", sample_pose(generator(i, 5)), i) for i, scene in enumerate(SCENES)
    ]
    x = torch.from_numpy(np.stack([np.asarray(render(s)) for s in specs])).permute(0, 3, 1, 2).float() / 127.5 - 1
    for spec, said in zip(specs, eyes.predict(x), strict=True):
        assert (said["scene"], said["style"]) == (spec.scene, style)
        assert (said["body"], said["wing_colour"], said["tail"]) == ("orange", "teal", "flame")


def test_geometry():
    assert np.allclose(rotate([(1, 0)], (0, 0), np.pi / 2), [[0, 1]])
    assert mix((0, 0, 0), (200, 100, 50), 0.5) == (100, 50, 25)
    assert np.allclose(np.hypot(*(ellipse(0, 0, 2, 2) / 2).T), 1)
    assert np.allclose(catmull_rom([(0, 0), (1, 0), (2, 0)], closed=False)[-1], (2, 0))
    assert len(COLOURS) == len(set(COLOURS.values()))
