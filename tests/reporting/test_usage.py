"""How the learned embedding is used elsewhere: the programs run, and each web UI has its own spelling."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from stages.models.params import Concept, Model
from stages.rendering.load_embedding import load_embedding
from stages.rendering.params import Render
from stages.reporting.inputs import describe_embedding
from stages.reporting.usage import compatibility, diffusers_example, file_stem, web_uis
from tests.outs import write_tables
from tests.tiny import WIDTH, WIDTH_G, WIDTH_T5, tiny_model, tiny_sd3, tiny_sdxl

TWO = {"clip_l": WIDTH, "clip_g": WIDTH_G}
V3 = {"modelspec.architecture": "stable-diffusion-v3-medium/textual-inversion"}
FAMILIES = {
    "sd": (tiny_model, "train", {"<cat>": WIDTH}, {}),
    "sdxl": (tiny_sdxl, "train", TWO, {}),
    "sd3": (tiny_sd3, "train", TWO | {"t5xxl": WIDTH_T5}, {}),
    "sd3 with a frozen T5": (tiny_sd3, "frozen", TWO, V3),
    "sd3 without T5": (tiny_sd3, "none", TWO, V3),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_program_renders_with_diffusers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    build, t5, tables, metadata = FAMILIES[name]
    file = write_tables(Path("e.safetensors"), tables, 2, initializer="dragon", **metadata)
    model, embedding = Model(base=str(build(tmp_path / "model")), t5=t5), describe_embedding(file)
    assert embedding["family"] == name.split(maxsplit=1)[0]
    concept = Concept(placeholder_token="<cat>", initializer_token="dragon")
    render = Render(prompts={"night": "a {} at night"}, seeds=[3], steps=2, guidance_scale=3.0)
    params = {"model": model.model_dump(), "concept": concept.model_dump(), "render": render.model_dump()}
    exec(diffusers_example(file, embedding, params, "cat.png"), {})
    pipeline = DiffusionPipeline.from_pretrained(
        model.base, **{"text_encoder_3": None, "tokenizer_3": None} if t5 == "none" else {}
    )
    prompts = {"prompt": "a <cat> at night"}
    loaded = load_embedding(pipeline, file, "<cat>")
    if build is tiny_sd3:
        prompts = loaded.prompts(prompts["prompt"])
    expected = pipeline(
        **prompts, num_inference_steps=2, guidance_scale=3.0, generator=torch.Generator("cpu").manual_seed(3)
    )
    assert np.array_equal(np.asarray(Image.open("cat.png")), np.asarray(expected.images[0]))


@pytest.mark.parametrize(
    ("placeholder", "stem"),
    [("<emberwing>", "emberwing"), ("<my cat/2>", "my-cat-2"), ("<_é_>", "é"), ("***", "embedding")],
)
def test_file_name_of_a_placeholder(placeholder: str, stem: str):
    assert file_stem(placeholder) == stem


def describe(tmp_path: Path, *widths: int, **metadata: str) -> dict:
    names = ("clip_l", "clip_g", "t5xxl") if len(widths) > 1 else ("<cat>",)
    return describe_embedding(
        write_tables(tmp_path / "e.safetensors", dict(zip(names, widths, strict=False)), **metadata)
    )


def test_every_ui_names_the_file_in_its_own_way(tmp_path: Path):
    spellings = {"A": "a cat and cat", "C": "a embedding:cat and embedding:cat", "I": "a <cat> and <cat>"}
    for embedding, uis in (
        (describe(tmp_path, 768), "ACI"),
        (describe(tmp_path, 768, 1280), "ACI"),
        (describe(tmp_path, 768, 1280, 4096), "C"),
        (describe(tmp_path, 768, 1280, **V3), "C"),
    ):
        assert [ui.prompt for ui in web_uis(embedding, "a {} and {}", "<cat>")] == [spellings[ui] for ui in uis]


def test_widths_decide_which_models_fit(tmp_path: Path):
    assert "Stable Diffusion 1.x and" in compatibility(describe(tmp_path, 768), "any")
    assert "Stable Diffusion 2.x and" in compatibility(describe(tmp_path, 1024), "any")
    assert "Stable Diffusion XL and" in compatibility(describe(tmp_path, 768, 1280), "any")
    with_t5, without = describe(tmp_path, 768, 1280, 4096), describe(tmp_path, 768, 1280, **V3)
    assert "no vectors for T5" in compatibility(without, "any")
    assert "no vectors for T5" not in compatibility(with_t5, "any")
    assert "fits starter/model only" in compatibility(describe(tmp_path, 256), "starter/model")
