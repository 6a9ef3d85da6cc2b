"""The file that a person takes away: read by safetensors and by diffusers, the same bytes every time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from stages.inversion.embedding_file import dump, snapshot_name

VECTORS = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
ORIGIN = {"base_model": "starter/model", "steps": 6, "revision": None}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "learned_embeds.safetensors"
    path.write_bytes(dump(VECTORS, "<critter>", ORIGIN))
    return path


def test_safetensors_reads_one_key_and_where_it_comes_from(file: Path):
    with safe_open(file, "np") as opened:
        assert list(opened.keys()) == ["<critter>"]
        assert np.array_equal(opened.get_tensor("<critter>"), VECTORS)
        assert opened.metadata() == {"base_model": "starter/model", "steps": "6"}


def test_the_bytes_are_the_same_whatever_the_order(file: Path):
    assert dump(VECTORS, "<critter>", dict(reversed(ORIGIN.items()))) == file.read_bytes()
    assert int.from_bytes(file.read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize("count", [1, 3])
def test_diffusers_loads_it_under_its_placeholder(folder: Path, tmp_path: Path, count: int):
    path = tmp_path / "word.safetensors"
    path.write_bytes(dump(VECTORS[:count], "<critter>", ORIGIN))
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipeline.load_textual_inversion(str(path), token="<critter>")
    tokens = ["<critter>", "<critter>_1", "<critter>_2"][:count]
    ids = pipeline.tokenizer.convert_tokens_to_ids(tokens)
    table = pipeline.text_encoder.get_input_embeddings().weight
    assert torch.equal(table[ids], torch.from_numpy(VECTORS[:count]))
    assert pipeline.maybe_convert_prompt("a <critter>", pipeline.tokenizer) == f"a {' '.join(tokens)}"


def test_names_of_snapshots_are_in_the_order_of_steps():
    names = [snapshot_name(step) for step in (5, 40, 100000)]
    assert names == sorted(names)
    assert json.dumps(names[0]) == '"step-000005.safetensors"'
