"""The embedding file is read by safetensors and diffusers, and has the same bytes every time."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from stages.inversion.embedding_file import dump

VECTORS = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
METADATA = {"base_model": "starter/model", "steps": 6, "revision": None}


def test_file_has_one_tensor_and_sorted_metadata(tmp_path: Path):
    path = tmp_path / "learned_embeds.safetensors"
    path.write_bytes(dump(VECTORS, "<critter>", METADATA))
    with safe_open(path, "pt") as file:
        assert list(file.keys()) == ["<critter>"]
        assert torch.equal(file.get_tensor("<critter>"), VECTORS)
        assert file.metadata() == {"base_model": "starter/model", "steps": "6"}
    assert dump(VECTORS, "<critter>", dict(reversed(METADATA.items()))) == path.read_bytes()
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize("count", [1, 3])
def test_diffusers_loads_the_file(folder: Path, tmp_path: Path, count: int):
    path = tmp_path / "embedding.safetensors"
    path.write_bytes(dump(VECTORS[:count], "<critter>", METADATA))
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipeline.load_textual_inversion(str(path), token="<critter>")
    tokens = ["<critter>", "<critter>_1", "<critter>_2"][:count]
    ids = pipeline.tokenizer.convert_tokens_to_ids(tokens)
    assert torch.equal(pipeline.text_encoder.get_input_embeddings().weight[ids], VECTORS[:count])
    assert pipeline.maybe_convert_prompt("a <critter>", pipeline.tokenizer) == f"a {' '.join(tokens)}"
