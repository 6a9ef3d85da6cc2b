"""Other models beside the base model: tiny ones of three families, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForText2Image
from PIL import Image
from safetensors.torch import load_file, save_file

from stages import UserError, render
from stages.common.read_outs import RendersIndex, read_json
from stages.common.runtime import Runtime
from stages.models.philox import generator, normal
from stages.rendering.compared_models import PipelineSampler, compared_inputs
from stages.rendering.params import Render
from tests.outs import write_curated, write_embedding
from tests.project import SMALL, write_params
from tests.rendering.conftest import FAST
from tests.tiny import LENGTH, WIDTH, tiny_model, tiny_sd3, tiny_sdxl

CPU = torch.device("cpu")
FAMILIES = {"StableDiffusion": (tiny_model, 4), "StableDiffusionXL": (tiny_sdxl, 4), "StableDiffusion3": (tiny_sd3, 16)}


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl(tmp_path_factory.mktemp("compare") / "sdxl")


@pytest.fixture
def copy(sdxl: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sdxl, tmp_path / "copy")


def open_sampler(folder: Path | str, **changed: object) -> PipelineSampler:
    section = Render(**FAST | {"compare": [{"model": str(folder)}]} | changed)
    (inputs,) = compared_inputs(section, "cat", CPU)
    return PipelineSampler(inputs, Runtime(), CPU)


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("name", FAMILIES)
def test_render_equals_the_pipeline_of_diffusers_with_counted_noise(name: str, tmp_path: Path):
    build, channels = FAMILIES[name]
    section = Render(
        **FAST, negative_prompt="red", compare=[{"model": str(build(tmp_path / "model")), "label": "Other"}]
    )
    (inputs,) = compared_inputs(section, "cat", CPU)
    sampler, job = PipelineSampler(inputs, Runtime(), CPU), inputs.jobs()[-1]
    assert (job.file, job.text) == ("both/Other-0.png", "cat and cat at night")
    (((_, image),),) = sampler.batches([job])
    reference = AutoPipelineForText2Image.from_pretrained(tmp_path / "model", safety_checker=None)
    assert type(reference).__name__ == f"{name}Pipeline"
    expected = reference(
        job.text,
        negative_prompt="red",
        num_inference_steps=3,
        guidance_scale=4.0,
        latents=torch.from_numpy(normal(0, "render", 0, 0, (1, channels, 8, 8))),
        generator=torch.Generator().manual_seed(int(generator(0, "render", 1, 0).integers(2**63))),
    ).images[0]
    assert image == expected
    assert f"Steps: 3, Sampler: {'DDIM' if name == 'StableDiffusion' else 'Euler'}," in sampler.parameters(job, image)
    assert f"Seed: 0, Size: 32x32, Model: {tmp_path / 'model'}, Precision: fp32" in sampler.parameters(job, image)


def test_prompt_that_is_too_long_is_reported_once(sdxl: Path):
    sampler = open_sampler(sdxl, prompts={"long": "a {} " * LENGTH, "short": "a {}"}, seeds=[0, 1])
    (warning,) = sampler.prepare(sampler._inputs.jobs())
    assert warning.endswith("is too long for sdxl; its end is cut off")


def configure(*compare: dict, **changed: object) -> None:
    section = (
        SMALL["render"] | {"prompts": {"plain": "a {}", "night": "a {} at night"}, "compare": list(compare)} | changed
    )
    write_params(Path(), SMALL | {"render": section, "runtime": {"threads": 1, "trackers": []}})


def test_column_is_drawn_beside_the_others_and_again_only_if_its_model_changes(
    sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    tiny_model(tmp_path / "starter" / "model")
    write_curated(tmp_path / "data" / "curated")
    write_embedding(Path("data/embedding/learned_embeds.safetensors"), np.ones((1, WIDTH)))
    model = shutil.copytree(sdxl, tmp_path / "models" / "sdxl")

    def run() -> tuple[dict[str, bytes], dict[Path, int]]:
        """Return the renders, and when every file of the cache was written."""
        render.main()
        files = {str(path): path.read_bytes() for path in Path("data/renders").rglob("*.png")}
        return files, {path: path.stat().st_mtime_ns for path in Path(".scratch/render").iterdir()}

    configure()
    first, cached = run()
    own = {"model": "models/sdxl", "label": "SD XL", "prompts": {"night": "the {}, at night"}}
    configure({"model": "models/sdxl"}, own)
    files, more = run()
    assert first.items() <= files.items()
    new = {name.removeprefix("data/renders/") for name in files.keys() - first.keys()}
    assert new == {"plain/sdxl-0.png", "night/sdxl-0.png", "night/SD-XL-0.png"}
    assert cached.items() <= more.items()
    assert (
        Image.open("data/renders/night/SD-XL-0.png").text["parameters"].startswith("the Critter, at night\nSteps: 2,")
    )
    index = read_json(Path("data/renders/index.json"), "render", RendersIndex)
    assert (index["subjects"]["sdxl"], index["subjects"]["SD-XL"]) == ("sdxl", "SD XL")
    assert new <= {row["file"] for row in index["cells"]}
    assert run() == (files, more)
    weights = load_file(model / "vae" / "diffusion_pytorch_model.safetensors")
    save_file({name: 1.1 * w for name, w in weights.items()}, model / "vae" / "diffusion_pytorch_model.safetensors")
    again, times = run()
    assert cached.items() == more.items() & times.items(), "the renders of the base model are kept"
    assert {name for name in files if again[name] != files[name]} == {f"data/renders/{name}" for name in new}


def no_weights(folder: Path) -> None:
    (file,) = (folder / "unet").glob("*.safetensors")
    file.rename(file.with_suffix(".bin"))


def missing_weight(folder: Path) -> None:
    (file,) = (folder / "text_encoder_2").glob("*.safetensors")
    weights = load_file(file)
    del weights["text_projection.weight"]
    save_file(weights, file, {"format": "pt"})


INDEX = "model_index.json"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (shutil.rmtree, r"the folder .*copy does not exist; correct `render.compare`"),
    "index": (lambda folder: (folder / INDEX).unlink(), r"model_index.json is missing; `render.compare` must be"),
    "class": (lambda folder: change(folder / INDEX, _class_name=["a", "b"]), r"is not the index of a diffusers model"),
    "family": (
        lambda folder: change(folder / INDEX, _class_name="DDPMPipeline"),
        r"copy is a DDPMPipeline, which is no text-to-image pipeline of diffusers; correct `render.compare`",
    ),
    "pickle": (no_weights, r"unet/.*\.bin is a pickle file, which can run any code; get the model's safetensors files"),
    "weight": (missing_weight, r"text_encoder_2 of .* \(the weight text_projection.weight is missing\)"),
    "code": (
        lambda folder: change(folder / INDEX, unet=["os", "system"]),
        r"the unet of .*copy is a os.system, which cannot be loaded; correct `render.compare`",
    ),
    "shapes": (
        lambda folder: change(folder / INDEX, text_encoder_2=[None, None]),
        r"copy cannot render \(.*\); correct `render.compare`",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_model_that_cannot_be_used_is_reported(name: str, copy: Path):
    damage, message = DAMAGE[name]
    damage(copy)
    with pytest.raises(UserError, match=message):
        sampler = open_sampler(copy)
        next(sampler.batches(sampler._inputs.jobs()))


def test_nan_is_refused(copy: Path):
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: w * 1e30 for name, w in load_file(file).items()}, file)
    sampler = open_sampler(copy)
    with pytest.raises(UserError, match=r"plain/copy-7.png contains NaN or Inf; set `render.precision: fp32`"):
        next(sampler.batches(sampler._inputs.jobs()))


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        ([{"model": "a/b"}, {"model": "c/b"}], "two columns are called 'b'; set `label`"),
        ([{"model": "a/b", "label": "word"}], "two columns are called 'word'"),
        ([{"model": "a/b", "label": "?"}], "becomes a file name"),
        ([{"model": "a/b", "prompts": {"sea": "x"}}], "has a prompt 'sea', but `render.prompts` has no row"),
    ],
)
def test_invalid_params_are_refused(compare: list, message: str):
    with pytest.raises(ValueError, match=message):
        Render(**FAST, compare=compare)
