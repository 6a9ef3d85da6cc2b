"""A render depends on its job, and on nothing that was rendered before it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPTextModel, CLIPTokenizer

from stages import UserError
from stages.rendering.jobs import Job
from stages.rendering.pipeline import SCHEDULERS
from tests.tiny import WIDTH


def job(text: str = "a <critter>", seed: int = 7) -> Job:
    return Job("plain", "word", text, seed)


def test_render_does_not_depend_on_earlier_ones(open_sampler: Callable):
    alone, sampler = open_sampler()(job()), open_sampler()
    for text, seed in (("a dragon", 1), ("a cat at night", 7)):
        sampler(job(text, seed))
    assert sampler(job()) == alone
    assert sampler(job(seed=8)) != alone


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_tokens_with_equal_vectors_give_equal_renders(open_sampler: Callable, model: Path, scheduler: str):
    table = CLIPTextModel.from_pretrained(model / "text_encoder").get_input_embeddings().weight.detach().numpy()
    dragon = CLIPTokenizer.from_pretrained(model / "tokenizer").convert_tokens_to_ids("dragon</w>")
    sampler = open_sampler(table[[dragon]], scheduler=scheduler)
    first, *same, other = (sampler(job(f"a {token} at night")) for token in ("<critter>", "<critter>", "dragon", "cat"))
    assert same == [first, first]
    assert other != first


def test_guidance_negative_prompt_and_size(open_sampler: Callable):
    changes = ({}, {"guidance_scale": 1.0}, {"guidance_scale": 9.0}, {"negative_prompt": "red"})
    renders = [open_sampler(**changed)(job()) for changed in changes]
    assert len({render.tobytes() for render in renders}) == 4
    assert renders[0].size == (32, 32)
    assert open_sampler(height=16, width=40)(job()).size == (40, 16)


def test_all_vectors_must_fit_into_the_prompt(open_sampler: Callable):
    sampler = open_sampler(np.ones((3, WIDTH)))
    assert sampler(job("a " * 11 + "<critter>")).size == sampler(job("<critter> " + "a " * 30)).size == (32, 32)
    with pytest.raises(UserError, match=r"no room for <critter> within 16 tokens"):
        sampler(job("a " * 12 + "<critter>"))


def test_nan_is_refused(open_sampler: Callable):
    with pytest.raises(UserError, match=r"plain/word-7.png contains NaN or Inf; set `render.precision: fp32`"):
        open_sampler(np.full((1, WIDTH), 3e38))(job())
