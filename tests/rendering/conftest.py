"""A tiny model, and a sampler with any embedding and params."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages.common.runtime import Runtime
from stages.models.params import Concept, Model
from stages.rendering import pipeline
from stages.rendering.jobs import Job, RenderInputs
from stages.rendering.params import Render
from stages.rendering.sampling import ImageSampler
from tests.outs import write_embedding
from tests.tiny import WIDTH, tiny_model

CONCEPT = Concept(placeholder_token="<critter>", initializer_token="dragon")
FAST = {"prompts": {"plain": "a {}", "both": "{} and {} at night"}, "seeds": [7, 0], "steps": 3, "guidance_scale": 4.0}
VECTORS = np.random.default_rng(0).standard_normal((1, WIDTH))


def render(sampler: ImageSampler, *jobs: Job) -> list[Image.Image]:
    """Return the images of jobs, in their order."""
    images = {job: image for batch in sampler.batches(list(jobs)) for job, image in batch}
    return [images[job] for job in jobs]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_model(tmp_path_factory.mktemp("rendering") / "model")


@pytest.fixture
def load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load a model in the first test that needs it; each pipeline gets a copy.

    Weights that a copy aligns otherwise in memory may round otherwise than those that diffusers loads.
    """
    monkeypatch.setattr(pipeline, "load_components", lambda *options: copy.deepcopy(load_components(*options)))


load_components = functools.cache(pipeline.load_components)


@pytest.fixture
def open_sampler(model: Path, tmp_path: Path, load_once: None) -> Callable[..., ImageSampler]:
    def open_with(vectors: np.ndarray = VECTORS, **changed: object) -> ImageSampler:
        embedding = write_embedding(tmp_path / "embedding.safetensors", vectors)
        inputs = RenderInputs(Model(base=str(model)), CONCEPT, Render(**FAST | changed), embedding)
        return ImageSampler(inputs, Runtime(), torch.device("cpu"))

    return open_with
