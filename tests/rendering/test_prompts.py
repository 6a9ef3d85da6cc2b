"""Prompts are encoded as diffusers does, cut with a warning, or encoded in chunks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages import UserError
from stages.models.params import Model
from stages.rendering.adapters import StableDiffusionAdapter
from stages.rendering.load_embedding import load_embedding
from stages.rendering.params import Render
from stages.rendering.pipeline import open_pipeline
from stages.rendering.prompts import PromptEncoder
from tests.outs import write_embedding
from tests.rendering.conftest import FAST
from tests.tiny import LENGTH, WIDTH

ROOM = LENGTH - 2


@pytest.fixture
def encoder(model: Path, tmp_path: Path, request: pytest.FixtureRequest) -> PromptEncoder:
    """An encoder with a placeholder token of three vectors."""
    pipeline = open_pipeline(Model(base=str(model)), Render(**FAST), "cpu")
    vectors = np.random.default_rng(0).standard_normal((3, WIDTH))
    embedding = load_embedding(pipeline, write_embedding(tmp_path / "embedding.safetensors", vectors), "<critter>")
    return PromptEncoder(
        StableDiffusionAdapter(pipeline, (32, 32)), [embedding], chunk=getattr(request, "param", False)
    )


chunked = pytest.mark.parametrize("encoder", [True], indirect=True)


@torch.no_grad()
@pytest.mark.parametrize("text", ["", "a <critter> at night", "a cat " * 20])
def test_embeddings_equal_those_of_diffusers(encoder: PromptEncoder, text: str):
    expected, _ = encoder._adapter.pipeline.encode_prompt(text, "cpu", 1, False)
    (embeds,) = encoder.encode(text)
    assert torch.equal(embeds[None], expected)
    assert encoder.encode(text) is not None
    assert len(encoder.warnings) == (len(text) > 100)


def test_warning_quotes_what_is_cut(encoder: PromptEncoder):
    encoder.encode("a " * ROOM + "red dragon")
    encoder.encode("a " * ROOM + "red dragon")
    (warning,) = encoder.warnings
    assert f"is longer than {ROOM} tokens; 'red dragon' is cut off" in warning


def test_all_vectors_must_fit_into_the_prompt(encoder: PromptEncoder):
    for text in ("a " * (ROOM - 3) + "<critter>", "<critter> " + "a " * 30):
        assert encoder.encode(text)[0].shape == (LENGTH, WIDTH)
    with pytest.raises(UserError, match=rf"no room for <critter> within {LENGTH} tokens"):
        encoder.encode("a " * (ROOM - 2) + "<critter>")


@torch.no_grad()
@chunked
def test_chunks_are_concatenated_and_keep_vectors_together(encoder: PromptEncoder):
    start, text = "a " * (ROOM - 2), "a " * (ROOM - 2) + "<critter> at night"
    assert encoder.windows(text) == 2
    parts = [encoder.encode(part)[0] for part in (start, "<critter> at night", "a cat", "")]
    assert torch.equal(encoder.encode(text)[0], torch.cat(parts[:2]))
    assert torch.equal(encoder.encode("a cat", windows=2)[0], torch.cat(parts[2:]))
    assert encoder.warnings == []
