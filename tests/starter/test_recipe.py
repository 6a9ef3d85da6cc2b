"""A rehearsal of the recipe: every part with the smallest models, a few images and a few steps."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from torch import nn

from starter.recipe import classifier, clip, dataset, decoder, export, unet, vae
from starter.recipe.options import parse_options
from starter.recipe.training import Trainer, load_shards, save_shards, step_generator


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run every part in the documented order; return the work folder and the folder of the exported weights."""
    work, out = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("out")
    options = ["--work", str(work), "--out", str(out), "--tiny", "--device", "cpu", "--steps", "2", "--batch", "4"]
    for part in (dataset, vae, clip, classifier, unet, export, decoder):
        part.main([*options, "--count", "12", "--workers", "1"])
    return work, out


@pytest.mark.slow
def test_rehearsal_exports_a_pipeline_that_renders(folders: tuple[Path, Path]):
    pipeline = StableDiffusionPipeline.from_pretrained(folders[1] / "model", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    (image,) = pipeline("a red cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images
    assert image.size == (128, 128)
    assert {path.name for path in folders[1].iterdir()} == {"model", "clip", "classifier"}


@pytest.mark.slow
def test_exported_tokenizers_are_the_one_that_was_trained_with(folders: tuple[Path, Path]):
    work, out = folders
    vocabulary = json.loads((work / "tokenizer/vocab.json").read_text())
    for folder in (out / "model/tokenizer", out / "clip"):
        assert json.loads((folder / "vocab.json").read_text()) == vocabulary
        assert json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"] == vocabulary


@pytest.mark.slow
def test_decoder_training_leaves_the_encoder_unchanged(folders: tuple[Path, Path]):
    work, out = folders
    before = load_file(work / "vae/diffusion_pytorch_model.safetensors")
    after = load_file(out / "model/vae/diffusion_pytorch_model.safetensors")
    changed = {key for key in before if not torch.equal(before[key].half(), after[key])}
    assert changed
    assert all(key.startswith(("decoder.", "post_quant_conv.")) for key in changed)


def train(work: Path, steps: int) -> dict[str, torch.Tensor]:
    options = parse_options("", ["--work", str(work), "--device", "cpu", "--steps", str(steps), "--planned", "1e9"])
    torch.manual_seed(0)
    module = nn.Linear(3, 2)

    def compute_loss(step: int) -> tuple[torch.Tensor, dict]:
        return module(torch.randn(4, 3, generator=step_generator(0, step, options))).pow(2).mean(), {}

    return Trainer("linear", module, options, lr=1e-2, ema_decay=0.9).fit(compute_loss).state_dict()


def test_resumed_training_equals_uninterrupted_training(tmp_path: Path):
    train(tmp_path / "resumed", 3)
    resumed, straight = train(tmp_path / "resumed", 7), train(tmp_path / "straight", 7)
    assert all(torch.equal(resumed[key], straight[key]) for key in straight)


def test_shards_keep_every_tensor_and_the_metadata(tmp_path: Path):
    tensors = {f"{i}": torch.full((2**20,), float(i)) for i in range(9)}  # 4 MiB each, so three files
    save_shards(tmp_path / "checkpoint", tensors, {"step": 5})
    loaded, metadata = load_shards(tmp_path / "checkpoint")
    assert metadata == {"step": 5}
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)
    assert len(list((tmp_path / "checkpoint").glob("*.safetensors"))) == 3
