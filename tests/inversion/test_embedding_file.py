"""The embedding file is read by safetensors and diffusers, and has the same bytes every time."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from stages import UserError
from stages.common.read_outs import read_embedding
from stages.inversion.embedding_file import dump, model_spec, tensors
from stages.models.embedding import Tables
from tests.tiny import WIDTH, WIDTH_G, tiny_sdxl

VECTORS = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
METADATA = {"base_model": "starter/model", "steps": 6, "revision": None}
TABLES = {
    "SD 1": Tables({"clip": 32}),
    "SDXL": Tables({"clip_l": 12, "clip_g": 20}),
    "SD 3": Tables({"clip_l": 8, "clip_g": 10, "t5xxl": 14}),
}


def test_file_has_one_tensor_and_sorted_metadata(tmp_path: Path):
    path = tmp_path / "learned_embeds.safetensors"
    path.write_bytes(dump({"<critter>": VECTORS}, METADATA))
    digest = "0x" + hashlib.sha256(VECTORS.numpy().tobytes()).hexdigest()
    with safe_open(path, "pt") as file:
        assert list(file.keys()) == ["<critter>"]
        assert torch.equal(file.get_tensor("<critter>"), VECTORS)
        metadata = file.metadata()
        assert metadata == {"base_model": "starter/model", "steps": "6", "modelspec.hash_sha256": digest}
    assert dump({"<critter>": VECTORS}, dict(reversed(METADATA.items()))) == path.read_bytes()
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_header_follows_the_standard_of_modelspec_and_has_no_date():
    spec = model_spec("stable-diffusion-xl-v1-base", "<critter>")
    assert spec["modelspec.architecture"] == "stable-diffusion-xl-v1-base/textual-inversion"
    # The standard's other fields that a file must have: the date would change the bytes, and an embedding has no size.
    assert {name.removeprefix("modelspec.") for name in spec} == {
        "sai_model_spec", "architecture", "implementation", "title"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SD 1", {"<critter>": (3, 32)}),
        # ComfyUI (comfy/sd1_clip.py, load_embed), A1111 and Forge (modules/textual_inversion), InvokeAI.
        ("SDXL", {"clip_l": (3, 12), "clip_g": (3, 20)}),
        # ComfyUI looks for t5xxl, OneTrainer for t5.
        ("SD 3", {"clip_l": (3, 8), "clip_g": (3, 10), "t5xxl": (3, 14), "t5": (3, 14)}),
    ],
)
def test_every_family_has_the_tensors_that_other_programs_look_for(name: str, expected: dict, tmp_path: Path):
    path, tables = tmp_path / "e.safetensors", TABLES[name]
    path.write_bytes(dump(tensors(tables, VECTORS, "<critter>"), METADATA))
    found = load_file(path)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == expected
    vectors, metadata = read_embedding(path)
    assert {name: table.shape[1] for name, table in vectors.items()} == tables.widths
    assert np.array_equal(np.concatenate(list(vectors.values()), 1), VECTORS)
    assert metadata["base_model"] == "starter/model"


@pytest.mark.parametrize(
    "content",
    [
        {"clip_l": VECTORS, "t5xxl": VECTORS},
        {"clip_l": VECTORS, "clip_g": VECTORS[:2]},
        {"clip_l": VECTORS, "clip_g": VECTORS, "other": VECTORS},
        {"clip_l": VECTORS, "clip_g": VECTORS * torch.inf},
    ],
    ids=["missing", "number of vectors", "unknown", "infinite"],
)
def test_file_with_other_tensors_is_refused(content: dict, tmp_path: Path):
    path = tmp_path / "e.safetensors"
    path.write_bytes(dump(content, {}))
    with pytest.raises(UserError, match=r"e\.safetensors cannot be read .*; run `dvc repro train`"):
        read_embedding(path)


@pytest.mark.parametrize("count", [1, 3])
def test_diffusers_loads_the_file(folder: Path, tmp_path: Path, count: int):
    path = tmp_path / "embedding.safetensors"
    path.write_bytes(dump({"<critter>": VECTORS[:count]}, METADATA))
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipeline.load_textual_inversion(str(path), token="<critter>")
    tokens = ["<critter>", "<critter>_1", "<critter>_2"][:count]
    ids = pipeline.tokenizer.convert_tokens_to_ids(tokens)
    assert torch.equal(pipeline.text_encoder.get_input_embeddings().weight[ids], VECTORS[:count])
    assert pipeline.maybe_convert_prompt("a <critter>", pipeline.tokenizer) == f"a {' '.join(tokens)}"


def test_diffusers_loads_the_file_of_sdxl_by_two_calls(tmp_path: Path):
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl(tmp_path / "model"))
    tables, vectors = Tables({"clip_l": WIDTH, "clip_g": WIDTH_G}), torch.randn(2, WIDTH + WIDTH_G)
    path = tmp_path / "embedding.safetensors"
    path.write_bytes(dump(tensors(tables, vectors, "<critter>"), METADATA))
    found = load_file(path)
    for name, part in (("clip_l", ""), ("clip_g", "_2")):
        encoder, tokenizer = (getattr(pipeline, f"{kind}{part}") for kind in ("text_encoder", "tokenizer"))
        pipeline.load_textual_inversion(found[name], token="<critter>", text_encoder=encoder, tokenizer=tokenizer)
        ids = tokenizer.convert_tokens_to_ids(["<critter>", "<critter>_1"])
        assert torch.equal(encoder.get_input_embeddings().weight[ids], tables.split(vectors)[name])
