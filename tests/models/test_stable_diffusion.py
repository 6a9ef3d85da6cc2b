"""The family that is there: every method against transformers' and diffusers' own way."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from stages import UserError
from stages.models.params import Concept
from stages.models.stable_diffusion import StableDiffusion
from tests.inversion.tiny_training import CONCEPT, opened


def test_the_word_starts_as_the_initializer(folder: Path, backbone: StableDiffusion):
    table = CLIPTextModel.from_pretrained(folder / "text_encoder").get_input_embeddings().weight
    dragon = CLIPTokenizer.from_pretrained(folder / "tokenizer").convert_tokens_to_ids("dragon</w>")
    assert torch.equal(backbone.initial_vectors(0), table[[dragon]])
    assert backbone.typical_norm() == pytest.approx(table.norm(dim=1).mean().item())


def test_a_phrase_starts_as_its_mean_and_random_as_the_table_is_spread(folder: Path):
    phrase = opened(folder, CONCEPT.model_copy(update={"initializer_token": "red cat", "initialization": "phrase"}))
    table = CLIPTextModel.from_pretrained(folder / "text_encoder").get_input_embeddings().weight
    ids = CLIPTokenizer.from_pretrained(folder / "tokenizer").convert_tokens_to_ids(["red</w>", "cat</w>"])
    torch.testing.assert_close(phrase.initial_vectors(0), table[ids].mean(0, keepdim=True))
    random = opened(folder, CONCEPT.model_copy(update={"initialization": "random", "vectors": 64}))
    drawn = random.initial_vectors(0)
    assert torch.equal(drawn, random.initial_vectors(0))
    assert not torch.equal(drawn, random.initial_vectors(1))
    assert drawn.std() == pytest.approx(table.std().item(), rel=0.1)


def test_the_context_is_that_of_a_text_encoder_whose_table_has_the_vectors(folder: Path, threefold: StableDiffusion):
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    ids = threefold.tokenize(["a photo of <critter> in the snow"])
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
        torch.testing.assert_close(threefold.context(ids, vectors), expected, rtol=1e-5, atol=1e-6)


def test_latents_and_predictions_are_those_of_the_parts(folder: Path, backbone: StableDiffusion):
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    mean, std = backbone.encode(pictures)
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist
        torch.testing.assert_close(mean, latents.mean * vae.config.scaling_factor, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(std, latents.std * vae.config.scaling_factor, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(backbone.decode(mean), vae.decode(latents.mean).sample, rtol=1e-3, atol=1e-4)
        context, times = torch.randn(2, 16, 32), torch.tensor([3, 700])
        expected = unet(mean, times, context).sample
        torch.testing.assert_close(backbone.predict(mean, times, context), expected, rtol=1e-3, atol=1e-4)


def test_recomputed_activations_give_the_same_gradient(folder: Path):
    gradients = []
    for recompute in (False, True):
        backbone = opened(folder)
        if recompute:
            backbone.checkpoint_gradients()
        vectors = backbone.initial_vectors(0).requires_grad_()
        context = backbone.context(backbone.tokenize(["a <critter>"]), vectors)
        noisy = torch.ones(1, 4, 8, 8)
        gradients += torch.autograd.grad(backbone.predict(noisy, torch.tensor([500]), context).square().sum(), vectors)
    assert torch.equal(*gradients)


def test_what_was_released_is_gone_and_what_is_kept_draws_on(backbone: StableDiffusion):
    backbone.release_encoder(for_good=False)
    assert backbone.decode(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 32, 32)
    backbone.release_encoder(for_good=True)
    assert not any(isinstance(value, AutoencoderKL) for value in vars(backbone).values())


@pytest.mark.parametrize(
    ("concept", "words"),
    [
        ({"placeholder_token": "dragon"}, ("placeholder_token", "dragon", "knows already")),
        ({"placeholder_token": "dragon</w>"}, ("placeholder_token", "dragon</w>", "knows already")),
        ({"initializer_token": "zebra"}, ("initializer_token", "zebra", "5 tokens", "phrase")),
        ({"initializer_token": " "}, ("initializer_token", "is empty")),
    ],
)
def test_a_concept_that_does_not_fit_the_model_is_refused(folder: Path, concept: dict, words: tuple[str, ...]):
    with pytest.raises(UserError) as error:
        opened(folder, Concept(**CONCEPT.model_dump() | concept))
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    "caption", ["a photo of a dragon", "a " * 30 + "<critter>"], ids=["no place", "cut off with its place"]
)
def test_a_caption_without_room_for_the_word_is_refused(backbone: StableDiffusion, caption: str):
    with pytest.raises(UserError, match="no room for <critter> within 16 tokens"):
        backbone.tokenize([caption])


def damaged(folder: Path, place: Path, part: str) -> Path:
    """=> a copy of the model that a test may damage, sharing what it does not."""
    for child in folder.iterdir():
        if child.name != part:
            (place / child.name).symlink_to(child)
    (shutil.copytree if (folder / part).is_dir() else shutil.copy)(folder / part, place / part)
    return place


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_missing_weights_are_named(folder: Path, tmp_path: Path, part: str):
    model = damaged(folder, tmp_path, part)
    for file in (model / part).glob("*.safetensors"):
        file.unlink()
    with pytest.raises(UserError, match=f"the {part} of .* cannot be read"):
        opened(model)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_pickle_is_never_opened(folder: Path, tmp_path: Path, part: str):
    model, canary = damaged(folder, tmp_path, part), tmp_path / "canary"
    for file in (model / part).glob("*.safetensors"):
        file.unlink()

    class Trap:
        def __reduce__(self):
            return (Path.touch, (canary,))

    name = {"unet": "diffusion_pytorch_model.bin", "text_encoder": "pytorch_model.bin"}[part]
    (model / part / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="is a pickle, which can run any code"):
        opened(model)
    assert not canary.exists()


def test_cut_weights_are_named(folder: Path, tmp_path: Path):
    model = damaged(folder, tmp_path, "unet")
    (file,) = (model / "unet").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"the unet of .* cannot be read"):
        opened(model)


def test_a_folder_that_is_no_model_and_a_family_that_is_not_known_are_named(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="is not here"):
        opened(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"model_index\.json is missing"):
        opened(tmp_path)
    model = damaged(folder, tmp_path, "model_index.json")
    (model / "model_index.json").write_text("{")
    with pytest.raises(UserError, match="is not an index"):
        opened(model)
    (model / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(UserError, match="is a FluxPipeline"):
        opened(model)


@pytest.mark.parametrize(("failures", "fits"), [(1, True), (2, False)])
def test_where_memory_is_short_the_denoiser_waits_while_pictures_are_encoded(
    backbone: StableDiffusion, monkeypatch: pytest.MonkeyPatch, failures: int, fits: bool
):
    """A GPU's memory is what runs out, so here the first calls say that it did."""
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    expected = backbone.encode(pictures)
    left, encode = [failures], AutoencoderKL.encode

    def short(self: AutoencoderKL, x: torch.Tensor) -> object:
        left[0] -= 1
        if left[0] >= 0:
            raise torch.OutOfMemoryError
        return encode(self, x)

    monkeypatch.setattr(AutoencoderKL, "encode", short)
    if fits:
        assert all(torch.equal(a, b) for a, b in zip(backbone.encode(pictures), expected, strict=True))
    else:
        with pytest.raises(UserError, match="32 x 32 pixels cannot be encoded"):
            backbone.encode(pictures)
    assert backbone.denoiser.device == backbone.device
