"""A render depends on its job, and on nothing that is rendered before it or beside it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from stages import UserError
from stages.models.params import Model
from stages.models.philox import generator, normal
from stages.rendering import sampling
from stages.rendering.jobs import Job
from stages.rendering.params import Render, Setting
from stages.rendering.pipeline import SCHEDULERS, choose_precision, open_pipeline
from stages.rendering.sampling import ImageSampler, balanced
from tests.rendering.conftest import FAST, render
from tests.tiny import WIDTH


def job(text: str = "a <critter>", seed: int = 7, scale: float = 4.0, steps: int = 3) -> Job:
    return Job("plain", "word", text, seed, Setting(steps, scale))


JOBS = [job(text, seed) for text in ("a <critter>", "a dragon", "a cat at night") for seed in (7, 8)]


def difference(first: Image.Image, second: Image.Image) -> int:
    return np.abs(np.asarray(first, int) - np.asarray(second, int)).max()


def test_render_does_not_depend_on_earlier_ones(open_sampler: Callable):
    (alone,), sampler = render(open_sampler(), job()), open_sampler()
    assert render(sampler, *JOBS)[0] == alone
    assert render(sampler, job()) == [alone]
    assert render(sampler, job(seed=8)) != [alone]


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_render_equals_the_pipeline_and_batches_agree(
    open_sampler: Callable, model: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str, guidance_scale: float
):
    settings = {"scheduler": scheduler, "negative_prompt": "red"}
    jobs = [job(text, seed, guidance_scale) for text in ("a dragon", "a cat at night") for seed in (7, 8)]
    alone = render(open_sampler(**settings), *jobs)
    pipeline = open_pipeline(Model(base=str(model)), Render(**FAST | settings), "cpu")
    latents = torch.from_numpy(normal(8, "render", 0, 0, (1, 4, 8, 8)))
    noise = torch.Generator().manual_seed(int(generator(8, "render", 1, 0).integers(2**63)))
    options = {"num_inference_steps": 3, "guidance_scale": guidance_scale, "negative_prompt": "red"}
    assert pipeline(jobs[1].text, latents=latents, generator=noise, **options).images[0] == alone[1]
    monkeypatch.setitem(sampling.LARGEST_BATCH, "cpu", 3)
    together = render(open_sampler(**settings), *jobs, job(scale=guidance_scale))
    assert max(map(difference, together, alone)) <= 1


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_tokens_with_equal_vectors_give_equal_renders(open_sampler: Callable, model: Path, scheduler: str):
    table = CLIPTextModel.from_pretrained(model / "text_encoder").get_input_embeddings().weight.detach().numpy()
    dragon = CLIPTokenizer.from_pretrained(model / "tokenizer").convert_tokens_to_ids("dragon</w>")
    sampler = open_sampler(table[[dragon]], scheduler=scheduler)
    first, same, other = render(sampler, *(job(f"a {token} at night") for token in ("<critter>", "dragon", "cat")))
    assert same == first
    assert other != first


def test_guidance_negative_prompt_and_size(open_sampler: Callable):
    sampler = open_sampler()
    alone = [
        render(sampler, job(scale=scale, steps=steps))[0] for scale, steps in ((4.0, 3), (1.0, 3), (9.0, 3), (9.0, 4))
    ]
    renders = [*alone, *render(open_sampler(negative_prompt="red"), job())]
    assert len({image.tobytes() for image in renders}) == 5
    assert render(sampler, *(job(scale=scale, steps=steps) for scale, steps in ((4.0, 3), (1.0, 3), (9.0, 4)))) == [
        alone[0],
        alone[1],
        alone[3],
    ]
    assert renders[0].size == (32, 32)
    assert render(open_sampler(height=16, width=40), job())[0].size == (40, 16)


def test_nan_is_refused(open_sampler: Callable):
    with pytest.raises(UserError, match=r"plain/word-7.png contains NaN or Inf; set `render.precision: fp32`"):
        render(open_sampler(np.full((1, WIDTH), 3e38)), job())


@pytest.mark.parametrize(
    ("count", "limit", "expected"), [(24, 16, 12), (16, 16, 16), (17, 16, 9), (1, 16, 1), (5, 2, 2), (7, 1, 1)]
)
def test_batches_are_nearly_equal(count: int, limit: int, expected: int):
    assert balanced(count, limit) == expected


def test_batch_is_halved_until_it_fits(open_sampler: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sampling.LARGEST_BATCH, "cpu", 16)
    sampler, tried = open_sampler(), []
    monkeypatch.setattr(ImageSampler, "_fits", lambda _, jobs: tried.append(len(jobs)) or len(jobs) <= 2)
    assert [len(batch) for batch in sampler.batches(JOBS)] == [2, 2, 2]
    assert tried == [6, 3, 2]
    monkeypatch.setattr(ImageSampler, "_fits", lambda *_: False)
    with pytest.raises(UserError, match="not one image fits into memory"):
        next(sampler.batches(JOBS))


def test_precision_of_the_model_and_the_device(model: Path):
    base = Model(base=str(model))
    assert choose_precision(Render(**FAST), base, torch.device("cpu")) == "fp32"
    assert choose_precision(Render(**FAST), base, torch.device("cuda")) == "fp16"
    assert choose_precision(Render(**FAST, precision="bf16"), base, torch.device("cpu")) == "bf16"
