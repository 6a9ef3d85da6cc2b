"""Stable Diffusion: every method against transformers and diffusers, and broken models are refused."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.autograd.graph import saved_tensors_hooks
from transformers import CLIPTextModel, CLIPTokenizer

from stages import UserError
from stages.models.params import Concept
from stages.models.stable_diffusion import StableDiffusion
from tests.inversion.tiny_training import CONCEPT, open_tiny
from tests.tiny import tiny_model, tiny_sd3, tiny_sdxl


def test_embeddings_words_and_initializer(folder: Path, backbone: StableDiffusion):
    table = CLIPTextModel.from_pretrained(folder / "text_encoder").get_input_embeddings().weight
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    assert torch.equal(backbone.text.token_embeddings(), table)
    words = backbone.text.words()
    assert len(words) == len(table)
    assert all(tokenizer.convert_tokens_to_ids(f"{word}</w>") == row for row, word in enumerate(words) if word)
    assert "dragon" in words
    assert not {tokenizer.bos_token, tokenizer.eos_token, "<critter>"} & set(words)
    assert torch.equal(backbone.text.initializer_vectors(), table[[words.index("dragon")]])


def test_initializer_of_a_phrase_is_its_mean(folder: Path):
    phrase = open_tiny(folder, CONCEPT.model_copy(update={"initializer_token": "red cat", "initialization": "phrase"}))
    table, words = phrase.text.token_embeddings(), phrase.text.words()
    rows = [words.index("red"), words.index("cat")]
    torch.testing.assert_close(phrase.text.initializer_vectors(), table[rows].mean(0, keepdim=True))


def test_prompt_embeddings_equal_those_of_an_encoder_with_a_larger_table(folder: Path, three_vectors: StableDiffusion):
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    ids = three_vectors.text.tokenize(["a photo of <critter> in the snow"])
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.add_tokens(["<critter>", "<critter>_1", "<critter>_2"])
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    encoder.resize_token_embeddings(len(tokenizer))
    encoder.get_input_embeddings().weight.data[-3:] = vectors
    text = "a photo of <critter> <critter>_1 <critter>_2 in the snow"
    theirs = tokenizer([text], padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(ids, theirs)
    with torch.no_grad():
        expected = encoder(theirs).last_hidden_state
        (found,) = three_vectors.encode_prompt(ids, vectors)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_latents_and_predictions_equal_those_of_diffusers(folder: Path, backbone: StableDiffusion):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    mean, std = backbone.encode(images)
    with torch.no_grad():
        latents = vae.encode(images).latent_dist
        torch.testing.assert_close(mean, latents.mean * vae.config.scaling_factor, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(std, latents.std * vae.config.scaling_factor, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(backbone.decode(mean), vae.decode(latents.mean).sample, rtol=1e-3, atol=1e-4)
        prompt, times = torch.randn(2, 16, 32), torch.tensor([3, 700])
        expected = unet(mean, times, prompt).sample
        found = backbone.predict(mean, times, (prompt,), torch.zeros(2, 6))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("build", [tiny_model, tiny_sdxl, tiny_sd3])
def test_gradient_checkpointing_gives_the_same_gradient(build: Callable[[Path], Path], tmp_path: Path):
    gradients, kept = [], []
    build(tmp_path / "model")
    for recompute in (False, True):
        backbone = open_tiny(tmp_path / "model")
        if recompute:
            backbone.enable_gradient_checkpointing()
        vectors, ids = backbone.text.initializer_vectors().requires_grad_(), backbone.text.tokenize(["a <critter>"])
        latents = torch.ones(1, backbone.denoiser.config.in_channels, 8, 8)
        with saved_tensors_hooks(lambda tensor: kept[-1].append(tensor) or tensor, lambda tensor: tensor):
            kept.append([])
            prompt = backbone.encode_prompt(ids, vectors)
        predicted = backbone.predict(latents, torch.tensor([500]), prompt, torch.zeros(1, 6))
        gradients += torch.autograd.grad(predicted.square().sum(), vectors)
    assert torch.equal(*gradients)
    assert 2 * len(kept[1]) < len(kept[0])  # in the text encoders


def test_released_vae_decodes_again_unless_it_is_deleted(backbone: StableDiffusion):
    backbone.release_vae(for_good=False)
    assert backbone.decode(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 32, 32)
    backbone.release_vae(for_good=True)
    assert not any(isinstance(value, AutoencoderKL) for value in vars(backbone._codec).values())


@pytest.mark.parametrize(
    ("concept", "words"),
    [
        ({"placeholder_token": "cat"}, ("placeholder_token", "cat", "already a token")),
        ({"placeholder_token": "cat</w>"}, ("placeholder_token", "cat</w>", "already a token")),
        ({"initializer_token": "zebra"}, ("initializer_token", "zebra", "5 tokens", "phrase")),
        ({"initializer_token": " "}, ("initializer_token", "is empty")),
    ],
)
def test_concept_that_does_not_fit_the_model_is_refused(folder: Path, concept: dict, words: tuple[str, ...]):
    with pytest.raises(UserError) as error:
        open_tiny(folder, Concept(**CONCEPT.model_dump() | concept))
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("caption", ["a photo of a dragon", "a " * 30 + "<critter>"], ids=["missing", "cut off"])
def test_caption_without_the_whole_placeholder_is_refused(backbone: StableDiffusion, caption: str):
    with pytest.raises(UserError, match="has no <critter> within its first 16 tokens"):
        backbone.text.tokenize([caption])


def copy_part(folder: Path, target: Path, part: str) -> Path:
    """Copy one part of the model into `target`, with symbolic links to the others."""
    for child in folder.iterdir():
        if child.name != part:
            (target / child.name).symlink_to(child)
    (shutil.copytree if (folder / part).is_dir() else shutil.copy)(folder / part, target / part)
    return target


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_missing_weights_are_reported(folder: Path, tmp_path: Path, part: str):
    model = copy_part(folder, tmp_path, part)
    for file in (model / part).glob("*.safetensors"):
        file.unlink()
    with pytest.raises(UserError, match=f"the {part} of .* cannot be loaded"):
        open_tiny(model)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_pickle_is_never_loaded(folder: Path, tmp_path: Path, part: str):
    model, canary = copy_part(folder, tmp_path, part), tmp_path / "canary"
    for file in (model / part).glob("*.safetensors"):
        file.unlink()

    class Trap:
        def __reduce__(self):
            return (Path.touch, (canary,))

    name = {"unet": "diffusion_pytorch_model.bin", "text_encoder": "pytorch_model.bin"}[part]
    (model / part / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="is a pickle file, which can run any code"):
        open_tiny(model)
    assert not canary.exists()


def test_truncated_weights_are_reported(folder: Path, tmp_path: Path):
    model = copy_part(folder, tmp_path, "unet")
    (file,) = (model / "unet").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"the unet of .* cannot be loaded"):
        open_tiny(model)


def test_folder_without_model_and_unknown_family_are_reported(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        open_tiny(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"model_index\.json is missing"):
        open_tiny(tmp_path)
    model = copy_part(folder, tmp_path, "model_index.json")
    (model / "model_index.json").write_text("{")
    with pytest.raises(UserError, match="is not the index"):
        open_tiny(model)
    (model / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(UserError, match="is a FluxPipeline"):
        open_tiny(model)


@pytest.mark.parametrize(("failures", "fits"), [(1, True), (2, False)])
def test_denoiser_leaves_the_device_if_encoding_runs_out_of_memory(
    backbone: StableDiffusion, monkeypatch: pytest.MonkeyPatch, failures: int, fits: bool
):
    """Only a GPU raises this error, so here the first calls do."""
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    expected = backbone.encode(images)
    remaining, encode = [failures], AutoencoderKL.encode

    def out_of_memory(self: AutoencoderKL, x: torch.Tensor) -> object:
        remaining[0] -= 1
        if remaining[0] >= 0:
            raise torch.OutOfMemoryError
        return encode(self, x)

    monkeypatch.setattr(AutoencoderKL, "encode", out_of_memory)
    if fits:
        assert all(torch.equal(a, b) for a, b in zip(backbone.encode(images), expected, strict=True))
    else:
        with pytest.raises(UserError, match="32 x 32 pixels cannot be encoded"):
            backbone.encode(images)
    assert backbone.denoiser.device == backbone.device
