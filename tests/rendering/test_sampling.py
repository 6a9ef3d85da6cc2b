"""A cell's picture depends on the cell, and on nothing that was drawn before it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from stages import UserError
from stages.models.params import Concept, Model
from stages.rendering.draw import png
from stages.rendering.jobs import Job, index, list_jobs
from stages.rendering.params import Render
from stages.rendering.pipeline import SAMPLERS, add_embedding, open_pipeline
from stages.rendering.sampling import ImageSampler

CONCEPT = Concept(placeholder_token="<critter>", initializer_token="dragon")
BRISK = {"prompts": {"plain": "a {}", "both": "{} and {} at night"}, "seeds": [7, 0], "steps": 3, "guidance_scale": 4.0}


def painter(pipeline: StableDiffusionPipeline, **changed: object) -> ImageSampler:
    return ImageSampler(pipeline, Render(**BRISK | changed), "<critter>")


def cell(text: str, seed: int = 7) -> Job:
    return Job("plain", "word", text, seed)


def test_cells_are_prompts_by_subjects_by_seeds():
    wanted = list_jobs(Render(**BRISK), CONCEPT)
    assert len({one.file for one in wanted}) == len(wanted) == 2 * 2 * 2
    assert (wanted[0].file, wanted[0].text) == ("plain/word-7.png", "a <critter>")
    assert (wanted[-1].file, wanted[-1].text) == ("both/initializer-0.png", "dragon and dragon at night")
    rows = index(Render(**BRISK), CONCEPT)["cells"]
    assert [row["file"] for row in rows] == [one.file for one in wanted]


def test_a_cell_does_not_depend_on_those_before_it(pipeline: StableDiffusionPipeline):
    alone = png(painter(pipeline)(cell("a <critter>")))
    long = painter(pipeline)
    for text, seed in (("a dragon", 1), ("a cat at night", 7)):
        long(cell(text, seed))
    assert png(long(cell("a <critter>"))) == alone
    assert png(long(cell("a <critter>", seed=8))) != alone


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_draws_the_same_twice_and_all_alike_for_both_subjects(folder: Path, sampler: str):
    """A word whose vector is the initializer's own is drawn as the initializer: prompt and noise are the same."""
    torch.set_num_threads(1)
    pipeline = open_pipeline(Model(base=str(folder)), sampler, "cpu", torch.float32)
    table = pipeline.text_encoder.get_input_embeddings().weight
    dragon = pipeline.tokenizer.convert_tokens_to_ids("dragon</w>")
    add_embedding(pipeline, "<critter>", table[[dragon]].detach().clone())
    paint = painter(pipeline)
    first = png(paint(cell("a <critter> at night")))
    assert png(paint(cell("a <critter> at night"))) == first
    assert png(paint(cell("a dragon at night"))) == first
    assert png(paint(cell("a cat at night"))) != first


def test_guidance_and_the_negative_prompt_count(pipeline: StableDiffusionPipeline):
    drawn = [
        png(painter(pipeline, **changed)(cell("a <critter>")))
        for changed in ({}, {"guidance_scale": 1.0}, {"guidance_scale": 9.0}, {"negative_prompt": "red"})
    ]
    assert len(set(drawn)) == 4


def test_the_size_is_as_asked(pipeline: StableDiffusionPipeline):
    assert painter(pipeline)(cell("a <critter>")).size == (32, 32)
    assert painter(pipeline, height=16, width=40)(cell("a <critter>")).size == (40, 16)


def test_a_prompt_without_room_for_the_word_is_one_sentence(pipeline: StableDiffusionPipeline):
    with pytest.raises(UserError, match=r"no room for <critter> within 16 tokens"):
        painter(pipeline)(cell("a " * 15 + "<critter>"))
    assert painter(pipeline)(cell("<critter> " + "a " * 30)).size == (32, 32)


def test_a_word_of_several_vectors_must_fit_whole(folder: Path):
    pipeline = open_pipeline(Model(base=str(folder)), None, "cpu", torch.float32)
    add_embedding(pipeline, "<critter>", torch.ones(3, 32))
    assert painter(pipeline)(cell("a " * 11 + "<critter>")).size == (32, 32)
    with pytest.raises(UserError, match="no room"):
        painter(pipeline)(cell("a " * 12 + "<critter>"))


def test_no_numbers_are_no_picture(folder: Path):
    pipeline = open_pipeline(Model(base=str(folder)), None, "cpu", torch.float32)
    add_embedding(pipeline, "<critter>", torch.full((1, 32), np.nan))
    with pytest.raises(UserError, match=r"plain/word-7.png came out as no numbers"):
        painter(pipeline)(cell("a <critter>"))


def test_what_makes_no_sense_in_params_is_refused():
    for changed, words in (
        ({"prompts": {"x": "no place"}}, "has no {}"),
        ({"prompts": {"../x": "a {}"}}, "becomes a folder"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": [2**32]}, "less than"),
        ({"height": 33}, "multiple of 8"),
    ):
        with pytest.raises(ValueError, match=words):
            Render(**BRISK | changed)
