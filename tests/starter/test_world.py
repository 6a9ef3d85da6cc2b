"""The world: reproducible images, true captions and labels, and no training image of Emberwing."""

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


def test_equal_seeds_give_equal_images():
    assert np.array_equal(pixels(5), pixels(5))
    assert not np.array_equal(pixels(5), pixels(6))
    assert pixels(5).shape == (128, 128, 3)


def test_emberwing_is_in_no_training_image_or_caption():
    assert not any(is_emberwing(named_creature(i)) for i in range(NAMED))
    assert not any(is_emberwing(sample_creature(generator(i, 3))) for i in range(3000))
    assert not any(is_emberwing(sample_spec(i).creature) for i in range(3000))
    assert NAME.lower() not in NAMES
    assert NAME.lower() not in vocabulary()


@pytest.mark.parametrize(
    ("a", "b"),
    [("kind", "body"), ("body", "wing_colour"), ("wings", "wing_colour"), ("body", "tail"), ("kind", "tail")],
)
def test_pairs_of_emberwings_attributes_are_in_the_training_set(a: str, b: str):
    pair = (getattr(EMBERWING, a), getattr(EMBERWING, b))
    assert any((getattr(creature, a), getattr(creature, b)) == pair for creature in map(named_creature, range(NAMED)))


def test_wings_and_body_have_different_colours():
    assert all(creature.body != creature.wing_colour for creature in map(named_creature, range(500)))


def test_captions_are_true():
    for seed in range(600):
        spec = sample_spec(seed)
        text = f" {caption(spec, generator(seed, 9), name_probability=0.0)} "
        for kind in KINDS:
            assert f" {kind} " not in text or spec.creature.kind == kind
        for style, phrases in STYLE_PHRASES.items():
            assert not any(phrase in text for phrase in phrases) or spec.style == style
        for scene, phrases in SCENE_PHRASES.items():
            assert not any(f" {phrase} " in text for phrase in phrases) or spec.scene == scene
        for tail in TAILS:
            assert f" {tail} tail" not in text or spec.creature.tail == tail
        for wings in WINGS[1:]:
            assert f" {wings} wings" not in text or spec.creature.wings == wings
        for size in ("small", "large"):
            assert f" {size} " not in text or spec.size == size


def test_each_name_belongs_to_one_creature():
    specs = [spec for spec in map(sample_spec, range(4000)) if spec.index >= 0]
    assert len(specs) > 2400
    assert all(spec.creature == named_creature(spec.index) for spec in specs)
    assert len(set(NAMES)) == NAMED
    assert NAMES[specs[0].index] in caption(specs[0], generator(0, 9), name_probability=1.0).split()


def test_words_are_single_tokens_and_the_placeholder_is_not():
    tokenizer = train_tokenizer(vocabulary())
    assert all(len(tokenizer.tokenize(word)) == 1 for word in vocabulary())
    assert len(tokenizer.tokenize("<emberwing>")) > 1
    assert len(tokenizer.tokenize(NAME.lower())) > 1
    longest = max((caption(sample_spec(i), generator(i, 9)) for i in range(400)), key=lambda text: len(text.split()))
    assert len(tokenizer(longest).input_ids) <= tokenizer.model_max_length


def test_equal_words_give_equal_token_ids():
    assert train_tokenizer(vocabulary()).get_vocab() == train_tokenizer(vocabulary()).get_vocab()


def test_labels_are_the_indices_of_the_attribute_values():
    spec = sample_spec(3)
    assert [GROUPS[g][i] for g, i in zip(GROUPS, labels(spec), strict=True)] == list(attribute_values(spec).values())


@pytest.mark.parametrize("style", STYLES)
def test_classifier_recognizes_emberwing_in_every_scene(style: str):
    poses = [sample_pose(generator(i, 5)) for i in range(len(SCENES))]
    specs = [ImageSpec(EMBERWING, scene, style, "large", poses[i], i) for i, scene in enumerate(SCENES)]
    x = torch.from_numpy(np.stack([np.asarray(render(s)) for s in specs])).permute(0, 3, 1, 2).float() / 127.5 - 1
    for spec, prediction in zip(specs, attribute_classifier.load().predict(x), strict=True):
        assert (prediction["scene"], prediction["style"]) == (spec.scene, style)
        assert (prediction["body"], prediction["wing_colour"], prediction["tail"]) == ("orange", "teal", "flame")


def test_geometry():
    assert np.allclose(rotate([(1, 0)], (0, 0), np.pi / 2), [[0, 1]])
    assert mix((0, 0, 0), (200, 100, 50), 0.5) == (100, 50, 25)
    assert np.allclose(np.hypot(*(ellipse(0, 0, 2, 2) / 2).T), 1)
    assert np.allclose(catmull_rom([(0, 0), (1, 0), (2, 0)], closed=False)[-1], (2, 0))
    assert len(COLOURS) == len(set(COLOURS.values()))
