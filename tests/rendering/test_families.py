"""Stable Diffusion XL and 3 render as diffusers' pipelines do, into which the same embedding is loaded."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from stages import UserError
from stages.common.runtime import Runtime
from stages.models.loading import open_backbone
from stages.models.params import Concept, Model
from stages.models.philox import normal
from stages.rendering import sampling
from stages.rendering.jobs import RenderInputs
from stages.rendering.load_embedding import load_embedding
from stages.rendering.params import Render
from stages.rendering.pipeline import choose_precision, open_pipeline
from stages.rendering.sampling import ImageSampler
from tests.closure import ROOT
from tests.outs import write_embedding, write_tables
from tests.rendering.conftest import FAST, render
from tests.rendering.test_sampling import difference, job
from tests.slow import slow
from tests.tiny import LENGTH, WIDTH, WIDTH_G, WIDTH_T5, tiny_sd3, tiny_sdxl

CONCEPT = Concept(placeholder_token="<critter>", initializer_token="dragon")
TWO = {"clip_l": WIDTH, "clip_g": WIDTH_G}
THREE = TWO | {"t5xxl": WIDTH_T5}
# Name: the model, what T5 does, the tables in the embedding file, and the channels of the latents.
FAMILIES = {
    "sdxl": (tiny_sdxl, "train", TWO, 4),
    "sd3": (tiny_sd3, "train", THREE, 16),
    "sd3-frozen-t5": (tiny_sd3, "frozen", TWO, 16),
    "sd3-without-t5": (tiny_sd3, "none", TWO, 16),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Callable, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("families")
    return {build: build(folder / build.__name__) for build in (tiny_sdxl, tiny_sd3)}


@pytest.fixture
def open_family(models: dict[Callable, Path], tmp_path: Path) -> Callable[..., ImageSampler]:
    def open_with(
        name: str, vectors: int = 2, storage_dtype: str | None = None, offload: bool = False, **changed: object
    ) -> ImageSampler:
        build, t5, tables, _ = FAMILIES[name]
        file = write_tables(tmp_path / "embedding.safetensors", tables, vectors, initializer="dragon")
        model = Model(base=str(models[build]), t5=t5, storage_dtype=storage_dtype)
        inputs = RenderInputs(model, CONCEPT, Render(**FAST | changed), file)
        return ImageSampler(inputs, Runtime(offload=offload), torch.device("cpu"))

    return open_with


def draw_with_diffusers(pipeline: DiffusionPipeline, prompts: dict[str, str], channels: int, **options: object):
    """Return an image of a pipeline, from the noise of the seed 7.

    The UNet has our memory format, because convolutions round differently in another one.
    """
    pipeline.set_progress_bar_config(disable=True)
    if hasattr(pipeline, "unet"):
        pipeline.unet.to(memory_format=torch.channels_last)
    latents = torch.from_numpy(normal(7, "render", 0, 0, (1, channels, 8, 8)))
    return pipeline(**prompts, latents=latents, num_inference_steps=3, **options).images[0]


@pytest.mark.parametrize("options", [(1.0, ""), slow((1.0, "red")), slow((4.0, "")), (4.0, "red")], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_render_equals_the_pipeline_of_diffusers_with_the_saved_file(
    open_family: Callable, models: dict, name: str, options: tuple[float, str]
):
    (build, t5, _, channels), (guidance_scale, negative_prompt) = FAMILIES[name], options
    sampler, text = open_family(name, negative_prompt=negative_prompt), "a <critter> at night"
    parts = {"text_encoder_3": None, "tokenizer_3": None} if t5 == "none" else {}
    pipeline = DiffusionPipeline.from_pretrained(models[build], **parts)
    embedding = load_embedding(pipeline, sampler._inputs.embedding, "<critter>")
    prompts = {"prompt": text} if build is tiny_sdxl else embedding.prompts(text)
    options = {"guidance_scale": guidance_scale, "negative_prompt": negative_prompt or None}
    image, without = render(sampler, *(job(t, scale=guidance_scale) for t in (text, "a dragon at night")))
    assert image == draw_with_diffusers(pipeline, prompts, channels, **options)
    assert image != without


@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_weights_in_8_bits_render_nearly_the_same_image(open_family: Callable, name: str):
    text = job("a <critter> at night")
    stored, full = (render(open_family(name, storage_dtype=kind), text)[0] for kind in ("fp8", None))
    assert stored != full
    assert difference(stored, full) < 8  # levels
    assert render(open_family(name, storage_dtype="fp8", offload=True), text) == [stored]


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_are_encoded_as_in_training(open_family: Callable, models: dict, tmp_path: Path, name: str):
    sampler, (build, t5, tables, _) = open_family(name), FAMILIES[name]
    concept = CONCEPT.model_copy(update={"vectors": 2})
    backbone = open_backbone(Model(base=str(models[build]), t5=t5), concept, "cpu", torch.float32)
    assert list(backbone.text.tables.widths) == list(tables)
    vectors = load_file(tmp_path / "embedding.safetensors")
    trained = backbone.encode_prompt(
        backbone.text.tokenize(["a <critter> at night"]), torch.cat([vectors[table] for table in tables], dim=1)
    )
    sampler.prepare([job("a <critter> at night")])
    for ours, expected in zip(sampler._prompts.encode("a <critter> at night"), trained, strict=True):
        torch.testing.assert_close(ours, expected[0])


def test_prompts_of_stable_diffusion_3(models: dict, tmp_path: Path):
    expanded = "<critter> <critter>_1 at sea"
    for tables, for_t5 in ((THREE, expanded), (TWO, "dragon at sea")):
        file = write_tables(tmp_path / "e.safetensors", tables, 2, initializer="dragon")
        embedding = load_embedding(DiffusionPipeline.from_pretrained(models[tiny_sd3]), file, "<critter>")
        assert embedding.prompts("<critter> at sea") == {"prompt": expanded, "prompt_3": for_t5}


def test_diffusers_loads_the_file_of_sdxl_in_two_calls(open_family: Callable, models: dict, tmp_path: Path):
    sampler = open_family("sdxl")
    pipeline = DiffusionPipeline.from_pretrained(models[tiny_sdxl])
    embedding = load_file(tmp_path / "embedding.safetensors")
    pipeline.load_textual_inversion(embedding["clip_l"], token="<critter>")
    second = {"text_encoder": pipeline.text_encoder_2, "tokenizer": pipeline.tokenizer_2}
    pipeline.load_textual_inversion(embedding["clip_g"], token="<critter>", **second)
    text, (image,) = "a <critter>", render(sampler, job("a <critter>"))
    # The config says that 2 ends a prompt. Then the new token, whose id is the largest, is pooled in place of the end.
    assert pipeline.text_encoder_2.config.eos_token_id == 2
    assert draw_with_diffusers(pipeline, {"prompt": text}, 4, guidance_scale=4.0) != image
    pipeline.text_encoder_2.text_model.eos_token_id = pipeline.tokenizer_2.eos_token_id
    assert draw_with_diffusers(pipeline, {"prompt": text}, 4, guidance_scale=4.0) == image


@pytest.mark.parametrize("scheduler", [slow("ddpm"), "euler_a", slow("dpm++")])
def test_sdxl_renders_with_other_schedulers(open_family: Callable, models: dict, scheduler: str):
    (image,) = render(open_family("sdxl", scheduler=scheduler), job("a dragon"))
    section = Render(**FAST, scheduler=scheduler)
    pipeline = open_pipeline(Model(base=str(models[tiny_sdxl])), section, "cpu")
    noise = sampling.step_noise(job())
    assert image == draw_with_diffusers(pipeline, {"prompt": "a dragon"}, 4, guidance_scale=4.0, generator=noise)


def test_sd3_has_its_own_scheduler_and_no_chunks(open_family: Callable):
    with pytest.raises(UserError, match=r"`render.scheduler` euler does not support rectified flow, .* set null"):
        open_family("sd3", scheduler="euler")
    with pytest.raises(UserError, match=r"`render.long_prompts: chunk` does not support Stable Diffusion 3"):
        open_family("sd3", long_prompts="chunk")


@pytest.mark.parametrize("name", FAMILIES)
def test_renders_do_not_depend_on_each_other(open_family: Callable, monkeypatch: pytest.MonkeyPatch, name: str):
    jobs = [job(text, seed) for text in ("a <critter>", "a dragon at night") for seed in (7, 8)]
    alone = render(open_family(name), *jobs)
    assert render(open_family(name), *reversed(jobs)) == alone[::-1]
    monkeypatch.setitem(sampling.LARGEST_BATCH, "cpu", 3)
    assert max(map(difference, render(open_family(name), *jobs), alone)) <= 1


def test_long_prompts(open_family: Callable):
    text = "a " * (LENGTH - 3) + "<critter> at night"
    with pytest.raises(UserError, match="has no room for <critter>"):
        render(open_family("sdxl"), job(text))
    chunked = open_family("sdxl", long_prompts="chunk")
    (image,) = render(chunked, job(text))
    assert isinstance(image, Image.Image)
    embeds, pooled = chunked._prompts.encode(text)
    assert (embeds.shape, pooled.shape) == ((2 * LENGTH, WIDTH + WIDTH_G), (WIDTH_G,))
    assert torch.equal(pooled, chunked._prompts.encode("a " * (LENGTH - 3))[1])
    for name, advice in (
        ("sdxl", "chunk` would use it"),
        ("sd3", "only T5 reads it"),
        ("sd3-without-t5", "would read it"),
    ):
        (warning,) = open_family(name).prepare([job("a <critter> " + "red " * LENGTH)])
        assert advice in warning


@pytest.mark.parametrize("name", FAMILIES)
def test_sizes(open_family: Callable, name: str):
    sampler = open_family(name, height=24, width=32)
    (image,) = render(sampler, job())
    assert image.size == (32, 24)
    if name == "sdxl":
        assert sampler._adapter._time_ids.tolist() == [[24, 32, 0, 0, 24, 32]]
    else:
        with pytest.raises(UserError, match=r"cannot render 128 x 32 pixels; .* multiples of 8 up to 64"):
            open_family(name, width=128)


def test_precision(models: dict, tmp_path: Path):
    copy = shutil.copytree(models[tiny_sdxl], tmp_path / "copy")
    config = copy / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"force_upcast": False}))
    # Stable Diffusion XL's VAE exceeds the range of float16, unless its config says otherwise.
    for folder, auto, vae in (
        (models[tiny_sdxl], "fp16", torch.float32),
        (copy, "fp16", torch.float16),
        (models[tiny_sd3], "bf16", torch.float16),
    ):
        base = Model(base=str(folder))
        assert choose_precision(Render(**FAST), base, torch.device("cuda")) == auto
        pipeline = open_pipeline(base, Render(**FAST, precision="fp16"), "cpu")
        assert (pipeline.text_encoder_2.dtype, pipeline.vae.dtype) == (torch.float16, vae)


def test_embeddings_of_other_families_do_not_fit(models: dict, tmp_path: Path):
    sdxl = DiffusionPipeline.from_pretrained(models[tiny_sdxl])
    one = write_embedding(tmp_path / "one.safetensors", np.ones((1, WIDTH)))
    wide = write_tables(tmp_path / "wide.safetensors", {"clip_l": WIDTH, "clip_g": WIDTH})
    file = write_tables(tmp_path / "e.safetensors", TWO)
    with pytest.raises(UserError, match=r"one.safetensors does not fit this model \(it has the tensors clip\)"):
        load_embedding(sdxl, one, "<critter>")
    with pytest.raises(UserError, match=r"wide.safetensors does not fit .* 32 numbers, and .* 40"):
        load_embedding(sdxl, wide, "<critter>")
    with pytest.raises(UserError, match="dragon</w> is a token of this model"):
        load_embedding(sdxl, file, "dragon</w>")
    load_embedding(sdxl, file, "<critter>")
    with pytest.raises(UserError, match="<critter> is a token of this model"):
        load_embedding(sdxl, file, "<critter>")


def test_embedding_without_t5_is_used_beside_one_with_t5(models: dict, tmp_path: Path):
    """A subject may be an embedding that was trained with another `model.t5`."""
    early = write_tables(tmp_path / "early.safetensors", TWO, initializer="cat")
    file = write_tables(tmp_path / "e.safetensors", THREE)
    section = Render(**FAST, subjects={"early": str(early)})
    inputs = RenderInputs(Model(base=str(models[tiny_sd3])), CONCEPT, section, file)
    sampler = ImageSampler(inputs, Runtime(), torch.device("cpu"))
    assert sampler._prompts._t5_text("<early> and <critter>") == "cat and <critter>"
    first, second = render(sampler, *[job for job in inputs.jobs() if job.subject in ("word", "early")][:2])
    assert first != second


@pytest.mark.parametrize(
    ("page", "base"),
    [
        ("README.md", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("docs/embedding-files.md", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("docs/embedding-files.md", "stabilityai/stable-diffusion-3.5-medium"),
    ],
)
def test_programs_in_the_docs_run(models: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, base: str):
    monkeypatch.chdir(tmp_path)
    build = tiny_sdxl if "xl" in base else tiny_sd3
    file = tmp_path / "data" / "embedding" / "learned_embeds.safetensors"
    file.parent.mkdir(parents=True)
    write_tables(file, TWO if build is tiny_sdxl else THREE)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    (program,) = (block for block in blocks if base in block)
    variables: dict = {}
    exec(program.replace(base, str(models[build])), variables)
    image = variables.get("image") or Image.open("charizard.png")
    assert image.size == (32, 32)
