"""Model folders with junk in their configs, weights and tokenizers: refused when they are opened, or they render."""

import json
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.common.runtime import Runtime
from stages.models.loading import open_backbone
from stages.models.params import Concept, Model
from stages.rendering.jobs import RenderInputs
from stages.rendering.params import Render
from stages.rendering.sampling import ImageSampler
from tests.hostile.bounds import accepted
from tests.models.test_stable_diffusion import copy_part
from tests.outs import write_embedding
from tests.tiny import WIDTH, tiny_model, tiny_sd3, tiny_sdxl

CONCEPT = Concept(placeholder_token="<\U0001f409>", initializer_token="dragon")
RENDER = Render(prompts={"plain": "a {}"}, seeds=[0], steps=1, guidance_scale=1.0)
JUNK = [None, 0, -1, 10**9, float("inf"), float("nan"), "x", [], {}, [1, 2], True, 1.5]
CONFIGS = {
    "scheduler": "scheduler_config.json",
    "text_encoder": "config.json",
    "vae": "config.json",
    "unet": "config.json",
    "tokenizer": "tokenizer_config.json",
}
WEIGHTS = {"text_encoder": "model", "vae": "diffusion_pytorch_model", "unet": "diffusion_pytorch_model"}
CODE = "from pathlib import Path\nPath({!r}).touch()\nclass Trap: pass\n"


def update(file: str, folder: Path, **values: object) -> None:
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | values))


def any_field(seed: int, file: str, folder: Path) -> None:
    rng = random.Random(f"{folder.name}{seed}")
    keys = sorted(set(json.loads((folder / file).read_text())) - {"_diffusers_version", "transformers_version"})
    update(file, folder, **{key: rng.choice(JUNK) for key in rng.sample(keys, min(len(keys), 1 + seed % 2))})


def write(file: str, content: str | bytes, folder: Path) -> None:
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())


def replace(file: str, make: Callable[[Path], None], folder: Path) -> None:
    (folder / file).unlink()
    make(folder / file)


def weight(change: Callable[[torch.Tensor], torch.Tensor], folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    name = sorted(weights)[len(weights) // 2]
    save_file(weights | {name: change(weights[name]).contiguous()}, file, {"format": "pt"})


def vocabulary(change: Callable[[dict], dict], folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        if name == "tokenizer.json" and (folder / name).is_file():
            content = json.loads((folder / name).read_text())
            content["model"]["vocab"] = change(content["model"]["vocab"])
            (folder / name).write_text(json.dumps(content))


BROKEN: dict[str, Callable[[str, Path], None]] = {
    "missing": lambda file, folder: (folder / file).unlink(),
    "empty": lambda file, folder: write(file, "", folder),
    "list": lambda file, folder: write(file, "[1]", folder),
    "no object": lambda file, folder: write(file, "{}", folder),
    "deep": lambda file, folder: write(file, "[" * 100_000, folder),
    "latin 1": lambda file, folder: write(file, b'{"a": "\xe9"}', folder),
    "folder": partial(replace, make=Path.mkdir),
    "pipe": partial(replace, make=os.mkfifo),
    "loop": partial(replace, make=lambda path: path.symlink_to(path.name)),
    "device": partial(replace, make=lambda path: path.symlink_to("/dev/zero")),
}
BROKEN = {name: (lambda file, folder, act=act: act(file=file, folder=folder)) for name, act in BROKEN.items()}
CASES: dict[str, tuple[str, Callable[[Path], None]]] = {
    **{
        f"{part} {seed}": (part, partial(any_field, seed, file)) for part, file in CONFIGS.items() for seed in range(10)
    },
    **{
        f"{name} {part}": (part, partial(BROKEN[name], CONFIGS[part]))
        for i, name in enumerate(BROKEN)
        for part in list(CONFIGS)[i % 2 : 4 : 2]
    },
    **{f"{name} weights": ("unet", partial(BROKEN[name], "diffusion_pytorch_model.safetensors")) for name in BROKEN},
    **{
        f"{name} index": (part, partial(write, f"{WEIGHTS[part]}.safetensors.index.json", content))
        for part, name, content in [
            ("unet", "list", "[]"),
            ("vae", "lists", '{"weight_map": []}'),
            ("unet", "lost", '{"weight_map": {"a": "../../x"}}'),
            ("text_encoder", "number", '{"weight_map": {"a": 1}}'),
        ]
    },
    **{f"shape of {part}": (part, partial(weight, lambda w: w[..., None])) for part in WEIGHTS},
    **{f"nan in {part}": (part, partial(weight, lambda w: w * float("nan"))) for part in WEIGHTS},
    "folder as index": ("unet", lambda folder: (folder / "diffusion_pytorch_model.safetensors.index.json").mkdir()),
    "quantized": ("text_encoder", partial(update, "config.json", quantization_config={"load_in_4bit": True})),
    "kernels": ("text_encoder", partial(update, "config.json", _attn_implementation="kernels-community/flash-attn")),
    "dtype": ("text_encoder", partial(update, "config.json", dtype="float7")),
    "layers": ("text_encoder", partial(update, "config.json", num_hidden_layers=10**6)),
    "size": ("text_encoder", partial(update, "config.json", hidden_size=10**9)),
    "vocabulary": ("text_encoder", partial(update, "config.json", vocab_size=10)),
    "unet sample size": ("unet", partial(update, "config.json", sample_size=None)),
    "unet sample sizes": ("unet", partial(update, "config.json", sample_size=[8, 8])),
    "scaling factor": ("vae", partial(update, "config.json", scaling_factor=None)),
    "prediction type": ("scheduler", partial(update, "scheduler_config.json", prediction_type="flow")),
    "betas": ("scheduler", partial(update, "scheduler_config.json", trained_betas=[0.5, -0.5] * 500)),
    "timesteps": ("scheduler", partial(update, "scheduler_config.json", num_train_timesteps=10**9)),
    "no length": ("tokenizer", partial(update, "tokenizer_config.json", model_max_length=None)),
    "length": ("tokenizer", partial(update, "tokenizer_config.json", model_max_length=0)),
    "tokens": ("tokenizer", partial(vocabulary, lambda vocab: vocab | {"zzz</w>": 10**6})),
    "no tokens": ("tokenizer", partial(vocabulary, lambda vocab: {})),
    "empty tokenizer": ("tokenizer", lambda folder: [path.unlink() for path in folder.iterdir()]),
}
MUST_BE_REFUSED = (
    "index", "shape", "nan", "pipe", "deep", "folder", "loop", "device", "quantized", "kernels", "layers",
                   "size", "vocabulary", "prediction", "betas", "tokens", "empty tokenizer")  # fmt: skip


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("hostile") / "model")


@pytest.mark.parametrize("name", CASES)
def test_model_is_refused_or_renders(name: str, base: Path, tmp_path: Path):
    part, damage = CASES[name]
    model = copy_part(base, tmp_path, part)
    damage(model / part)
    embedding = write_embedding(tmp_path / "out" / "e.safetensors", np.ones((1, WIDTH)), CONCEPT.placeholder_token)
    inputs = RenderInputs(Model(base=str(model)), CONCEPT, RENDER, embedding)

    def use() -> None:
        backbone = open_backbone(inputs.model, CONCEPT, "cpu", torch.float32)
        backbone.text.tokenize([f"a {CONCEPT.placeholder_token}"])
        next(ImageSampler(inputs, Runtime(), torch.device("cpu")).batches(inputs.jobs()[:1]))

    assert not accepted(use, mib=500) or not name.startswith(MUST_BE_REFUSED)


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("others")
    return {"sdxl": tiny_sdxl(folder / "sdxl"), "sd3": tiny_sd3(folder / "sd3")}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "part",
    [
        "sdxl/unet",
        "sdxl/tokenizer_2",
        "sd3/scheduler",
        "sd3/text_encoder_2",
        "sd3/text_encoder_3",
        "sd3/tokenizer_3",
        "sd3/transformer",
        "sd3/vae",
    ],
)
def test_model_of_another_family_is_refused_or_trains(part: str, seed: int, others: dict[str, Path], tmp_path: Path):
    family, _, part = part.partition("/")
    model = copy_part(others[family], tmp_path, part)
    any_field(seed, CONFIGS.get(part.partition("_")[0], "config.json"), model / part)

    def use() -> None:
        backbone = open_backbone(Model(base=str(model)), CONCEPT, "cpu", torch.float32)
        ids, vectors = backbone.text.tokenize([f"a {CONCEPT.placeholder_token}"]), backbone.text.initializer_vectors()
        shape, sizes = (1, backbone.denoiser.config.in_channels, 8, 8), torch.zeros(1, 6)
        backbone.encode(torch.zeros(1, 3, 32, 32))
        backbone.predict(torch.zeros(shape), torch.ones(1), backbone.encode_prompt(ids, vectors), sizes)

    accepted(use, mib=500)
