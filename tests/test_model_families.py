"""The pipeline as a user runs it, on tiny models of the other families: real DVC and every stage, twice."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from stages.common.read_outs import read_embedding
from stages.models.philox import normal
from stages.rendering.load_embedding import load_embedding
from tests import project
from tests.test_pipeline import ALL
from tests.tiny import tiny_sd3, tiny_sdxl

TWO = ["clip_l", "clip_g"]
FAMILIES = {
    "sdxl": (tiny_sdxl, "train", TWO),
    "sd3": (tiny_sd3, "train", [*TWO, "t5xxl"]),
    "sd3-frozen-t5": (tiny_sd3, "frozen", TWO),
    "sd3-without-t5": (tiny_sd3, "none", TWO),
}


def draw(folder: Path, build: Callable, t5: str) -> Image.Image:
    """Draw the placeholder token with diffusers' pipeline, into which the saved embedding is loaded."""
    parts = {"text_encoder_3": None, "tokenizer_3": None} if t5 == "none" else {}
    pipeline = DiffusionPipeline.from_pretrained(folder / "starter" / "model", **parts)
    pipeline.set_progress_bar_config(disable=True)
    if build is tiny_sdxl:
        pipeline.unet.to(memory_format=torch.channels_last)
    embedding = load_embedding(pipeline, folder / "data" / "embedding" / "learned_embeds.safetensors", "<critter>")
    prompts = embedding.prompts("a <critter>") if build is tiny_sd3 else {"prompt": "a <critter>"}
    latents = torch.from_numpy(normal(0, "render", 0, 0, (1, 4 if build is tiny_sdxl else 16, 8, 8)))
    return pipeline(**prompts, latents=latents, num_inference_steps=2, guidance_scale=2.0).images[0]


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose images are curated."""
    folder = project.create(tmp_path_factory.mktemp("families") / "project")
    assert project.repro(folder, "curate") == ALL[:3]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_pipeline_runs_repeats_and_its_embedding_renders_with_diffusers(curated: Path, tmp_path: Path, name: str):
    build, t5, tables = FAMILIES[name]
    folder = shutil.copytree(curated, tmp_path / "project", symlinks=True)
    shutil.rmtree(folder / "starter" / "model")
    build(folder / "starter" / "model")
    project.change(folder, model={"t5": t5}, concept={"vectors": 2})
    assert project.repro(folder) == ALL[3:]
    assert list(read_embedding(folder / "data" / "embedding" / "learned_embeds.safetensors")[0]) == tables
    first = project.hashes(folder)
    project.run(folder, "rm", "-r", ".scratch")
    assert project.repro(folder, "-f", "--no-run-cache", "--downstream", "train") == ALL[3:]
    assert project.hashes(folder) == first
    torch.set_num_threads(1)
    render = Image.open(folder / "data" / "renders" / "plain" / "word-0.png")
    assert np.array_equal(np.asarray(render), np.asarray(draw(folder, build, t5)))
    page = (folder / "report" / "index.html").read_text()
    assert "embedding:critter" in page
