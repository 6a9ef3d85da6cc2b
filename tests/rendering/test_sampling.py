"""A render depends on its job, and on nothing that was rendered before it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from stages import UserError
from stages.models.params import Concept, Model
from stages.rendering.jobs import Job, RenderInputs
from stages.rendering.params import Render
from stages.rendering.pipeline import SCHEDULERS, add_embedding, open_pipeline
from stages.rendering.sampling import ImageSampler
from tests.outs import write_embedding
from tests.tiny import WIDTH

FAST = {"prompts": {"plain": "a {}", "both": "{} and {} at night"}, "seeds": [7, 0], "steps": 3, "guidance_scale": 4.0}


def sampler(pipeline: StableDiffusionPipeline, **changed: object) -> ImageSampler:
    return ImageSampler(pipeline, Render(**FAST | changed), "<critter>")


def sampler_with(model: Path, vectors: np.ndarray, folder: Path, scheduler: str | None = None) -> ImageSampler:
    pipeline = open_pipeline(Model(base=str(model)), scheduler, "cpu", torch.float32)
    add_embedding(pipeline, "<critter>", write_embedding(folder / "embedding.safetensors", vectors))
    return sampler(pipeline)


def job(text: str, seed: int = 7) -> Job:
    return Job("plain", "word", text, seed)


def test_jobs_are_prompts_by_subjects_by_seeds():
    concept = Concept(placeholder_token="<critter>", initializer_token="dragon")
    inputs = RenderInputs(Model(), concept, Render(**FAST), Path())
    jobs = inputs.jobs()
    assert len({job.file for job in jobs}) == len(jobs) == 2 * 2 * 2
    assert (jobs[0].file, jobs[0].text) == ("plain/word-7.png", "a <critter>")
    assert (jobs[-1].file, jobs[-1].text) == ("both/initializer-0.png", "dragon and dragon at night")
    assert [row["file"] for row in inputs.index()["cells"]] == [job.file for job in jobs]


def test_render_does_not_depend_on_earlier_ones(pipeline: StableDiffusionPipeline):
    alone = sampler(pipeline)(job("a <critter>"))
    later = sampler(pipeline)
    for text, seed in (("a dragon", 1), ("a cat at night", 7)):
        later(job(text, seed))
    assert later(job("a <critter>")) == alone
    assert later(job("a <critter>", seed=8)) != alone


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_subjects_with_equal_embeddings_give_equal_renders(model: Path, tmp_path: Path, scheduler: str):
    pipeline = open_pipeline(Model(base=str(model)), None, "cpu", torch.float32)
    table = pipeline.text_encoder.get_input_embeddings().weight.detach().numpy()
    dragon = pipeline.tokenizer.convert_tokens_to_ids("dragon</w>")
    sample = sampler_with(model, table[[dragon]], tmp_path, scheduler)
    first = sample(job("a <critter> at night"))
    assert sample(job("a <critter> at night")) == first
    assert sample(job("a dragon at night")) == first
    assert sample(job("a cat at night")) != first


def test_guidance_and_negative_prompt_change_the_render(pipeline: StableDiffusionPipeline):
    changes = ({}, {"guidance_scale": 1.0}, {"guidance_scale": 9.0}, {"negative_prompt": "red"})
    assert len({sampler(pipeline, **changed)(job("a <critter>")).tobytes() for changed in changes}) == 4


def test_size(pipeline: StableDiffusionPipeline):
    assert sampler(pipeline)(job("a <critter>")).size == (32, 32)
    assert sampler(pipeline, height=16, width=40)(job("a <critter>")).size == (40, 16)


def test_all_vectors_must_fit_into_the_prompt(model: Path, tmp_path: Path):
    sample = sampler_with(model, np.ones((3, WIDTH)), tmp_path)
    assert sample(job("a " * 11 + "<critter>")).size == sample(job("<critter> " + "a " * 30)).size == (32, 32)
    with pytest.raises(UserError, match=r"no room for <critter> within 16 tokens"):
        sample(job("a " * 12 + "<critter>"))


def test_nan_is_refused(model: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"plain/word-7.png contains NaN or Inf; set `render.precision: fp32`"):
        sampler_with(model, np.full((1, WIDTH), np.nan), tmp_path)(job("a <critter>"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompts": {"x": "no slot"}}, "has no {}"),
        ({"prompts": {"../x": "a {}"}}, "becomes a folder"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": [2**32]}, "less than"),
        ({"height": 33}, "multiple of 8"),
    ],
)
def test_invalid_params_are_refused(changed: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Render(**FAST | changed)
