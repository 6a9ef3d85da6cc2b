"""Stable Diffusion XL and 3: prompts, losses and gradients equal those of diffusers' pipelines with the new tokens."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from torch.nn import functional as F
from transformers import T5EncoderModel

from stages import UserError
from stages.models.backbone import Backbone
from stages.models.loading import open_backbone
from stages.models.params import Concept, Model
from stages.models.text_encoders import T5_LENGTH
from tests.inversion.tiny_training import CONCEPT
from tests.tiny import WIDTH, WIDTH_G, WIDTH_T5, tiny_sd3, tiny_sdxl

NAMES = ("sdxl", "sd3", "sd3 frozen", "sd3 none")
WIDTHS = {"clip_l": WIDTH, "clip_g": WIDTH_G, "t5xxl": WIDTH_T5}
TWO = CONCEPT.model_copy(update={"vectors": 2})
CAPTION, EXPANDED = "a photo of <critter> in snow", "a photo of <critter> <critter>_1 in snow"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {"sdxl": tiny_sdxl(folder / "sdxl"), "sd3": tiny_sd3(folder / "sd3")}


def open_family(models: dict[str, Path], name: str, concept: Concept = TWO) -> Backbone:
    torch.set_num_threads(1)
    folder, _, t5 = name.partition(" ")
    return open_backbone(Model(base=str(models[folder]), t5=t5 or "train"), concept, "cpu", torch.float32)


def add_tokens(pipeline: DiffusionPipeline, vectors: dict[str, torch.Tensor]) -> dict[str, torch.nn.Parameter]:
    """Add the placeholder's tokens to a pipeline as transformers does; return the tables with the new rows."""
    tables = {}
    for (name, rows), suffix in zip(vectors.items(), ("", "_2", "_3"), strict=False):
        tokenizer, encoder = (getattr(pipeline, part + suffix) for part in ("tokenizer", "text_encoder"))
        tokenizer.add_tokens(["<critter>", "<critter>_1"])
        encoder.resize_token_embeddings(max(len(tokenizer), encoder.get_input_embeddings().num_embeddings))
        table = encoder.get_input_embeddings().weight
        table.data[tokenizer.convert_tokens_to_ids(["<critter>", "<critter>_1"])] = rows
        tables[name] = table
        if hasattr(encoder, "text_projection"):
            # The ids of the tokens are larger than that of EOS, at which the prompt is to be pooled.
            encoder.text_model.eos_token_id = tokenizer.eos_token_id
    return tables


def encode_by_diffusers(pipeline: DiffusionPipeline, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    options = {"device": torch.device("cpu"), "do_classifier_free_guidance": False}
    if name == "sdxl":
        embeds, _, pooled, _ = pipeline.encode_prompt(CAPTION, **options)  # it expands the token
        return embeds, pooled
    third = CAPTION.replace("<critter>", "dragon") if name == "sd3 frozen" else EXPANDED
    embeds, _, pooled, _ = pipeline.encode_prompt(EXPANDED, EXPANDED, third, **options)
    return embeds, pooled


def open_pipeline(models: dict[str, Path], name: str) -> DiffusionPipeline:
    without_t5 = {"text_encoder_3": None, "tokenizer_3": None} if name == "sd3 none" else {}
    return DiffusionPipeline.from_pretrained(models[name.partition(" ")[0]], **without_t5)


def random_vectors(backbone: Backbone) -> torch.Tensor:
    return 0.05 * torch.randn(2, sum(backbone.text.tables.widths.values()), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_prompts_equal_those_of_a_pipeline_with_larger_tables(name: str, models: dict[str, Path]):
    """The configs of the CLIP encoders have eos_token_id 2, with which transformers pools at the placeholder token."""
    backbone, pipeline = open_family(models, name), open_pipeline(models, name)
    assert pipeline.text_encoder_2.config.eos_token_id == 2
    vectors = random_vectors(backbone)
    add_tokens(pipeline, backbone.text.tables.split(vectors))
    with torch.no_grad():
        found = backbone.encode_prompt(backbone.text.tokenize([CAPTION]), vectors)
        for tensor, expected in zip(found, encode_by_diffusers(pipeline, name), strict=True):
            torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)


def test_pooled_prompt_is_that_of_the_last_token_and_not_of_the_placeholder(models: dict[str, Path]):
    """Without its correction, a pooled prompt would not depend on what follows the placeholder."""
    backbone = open_family(models, "sdxl")
    encoder, vectors = backbone.text_encoders[1], random_vectors(backbone)
    ids = backbone.text.tokenize([CAPTION, CAPTION.replace("snow", "sea")])
    assert not torch.equal(*backbone.encode_prompt(ids, vectors)[1])
    encoder.text_model.eos_token_id = 2
    assert torch.equal(*backbone.encode_prompt(ids, vectors)[1])


def sdxl_loss(pipeline: DiffusionPipeline, batch: SimpleNamespace, prompt: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the loss as diffusers' train_text_to_image_sdxl.py computes it."""
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    added = {"text_embeds": prompt[1], "time_ids": batch.sizes}
    predicted = pipeline.unet(noisy, batch.timesteps, prompt[0], added_cond_kwargs=added).sample
    return F.mse_loss(predicted, batch.noise)


def sd3_loss(pipeline: DiffusionPipeline, batch: SimpleNamespace, prompt: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the loss as diffusers' train_dreambooth_sd3.py computes it, without its weights."""
    sigmas = (batch.timesteps / pipeline.scheduler.config.num_train_timesteps).view(-1, 1, 1, 1)
    noisy = (1.0 - sigmas) * batch.latents + sigmas * batch.noise
    predicted = pipeline.transformer(
        hidden_states=noisy,
        timestep=batch.timesteps,
        encoder_hidden_states=prompt[0],
        pooled_projections=prompt[1],
    ).sample
    return F.mse_loss(predicted, batch.noise - batch.latents)


LOSSES: dict[str, Callable] = {"sdxl": sdxl_loss, "sd3": sd3_loss}


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_every_table_equals_that_of_diffusers(name: str, models: dict[str, Path]):
    backbone, pipeline = open_family(models, name), open_pipeline(models, name)
    vectors = random_vectors(backbone).requires_grad_()
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    mean, _ = backbone.encode(images)
    with torch.no_grad():
        vae = pipeline.vae
        shift = vae.config.shift_factor or 0
        expected = (vae.encode(images).latent_dist.mean - shift) * vae.config.scaling_factor
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            backbone.decode(mean), vae.decode(mean / vae.config.scaling_factor + shift).sample, rtol=1e-3, atol=1e-4
        )
    timestep = backbone.schedule.quantile(0.6)
    batch = SimpleNamespace(
        latents=mean,
        noise=torch.randn(mean.shape, generator=torch.Generator().manual_seed(3)),
        timesteps=torch.tensor([timestep]),
        sizes=torch.tensor([[480.0, 640.0, 0.0, 96.0, 32.0, 32.0]]),
    )
    conditioning = backbone.encode_prompt(backbone.text.tokenize([CAPTION]), vectors)
    noisy = backbone.schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
    predicted = backbone.predict(noisy, batch.timesteps, conditioning, batch.sizes)
    loss = F.mse_loss(predicted, backbone.schedule.target(batch.latents, batch.noise, batch.timesteps))
    (gradient,) = torch.autograd.grad(loss, vectors)

    tables = add_tokens(pipeline, {n: part.detach() for n, part in backbone.text.tables.split(vectors).items()})
    expected = LOSSES[name.partition(" ")[0]](pipeline, batch, encode_by_diffusers(pipeline, name))
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)
    expected.backward()
    for (table, part), suffix in zip(backbone.text.tables.split(gradient).items(), ("", "_2", "_3"), strict=False):
        ids = getattr(pipeline, f"tokenizer{suffix}").convert_tokens_to_ids(["<critter>", "<critter>_1"])
        assert (part.norm(dim=1) > 0).all(), table
        torch.testing.assert_close(part, tables[table].grad[ids], rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_initializer_and_words_are_in_every_table(name: str, models: dict[str, Path]):
    backbone, pipeline = open_family(models, name, CONCEPT), open_pipeline(models, name)
    names = ("clip_l", "clip_g", "t5xxl")[: 3 if name == "sd3" else 2]
    assert backbone.text.tables.widths == {table: WIDTHS[table] for table in names}
    row, found = backbone.text.words().index("dragon"), backbone.text.tables.split(backbone.text.initializer_vectors())
    for suffix, (table, vector) in zip(("", "_2", "_3"), found.items(), strict=False):
        tokenizer, encoder = (getattr(pipeline, part + suffix) for part in ("tokenizer", "text_encoder"))
        ids = tokenizer.encode("dragon", add_special_tokens=False)
        weights = encoder.get_input_embeddings().weight[ids]
        torch.testing.assert_close(vector[0], weights.mean(0))
        torch.testing.assert_close(backbone.text.tables.split(backbone.text.token_embeddings())[table][row], vector[0])


def test_frozen_t5_reads_the_initializer_token_once(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    """Its part of the prompt is diffusers' for that text, and a text is encoded once."""
    backbone, pipeline, lengths = open_family(models, "sd3 frozen"), open_pipeline(models, "sd3"), []
    forward = T5EncoderModel.forward
    monkeypatch.setattr(T5EncoderModel, "forward", lambda self, ids: lengths.append(len(ids)) or forward(self, ids))
    other = CAPTION.replace("photo", "cat")
    ids = {caption: backbone.text.tokenize([caption]) for caption in (CAPTION, other, CAPTION)}
    assert lengths == [1, 1]
    for caption, vectors in ((CAPTION, random_vectors(backbone)), (other, torch.zeros(2, 72))):
        text = caption.replace("<critter>", "dragon")
        expected = pipeline._get_t5_prompt_embeds(text, max_sequence_length=T5_LENGTH)
        torch.testing.assert_close(backbone.encode_prompt(ids[caption], vectors)[0][:, -T5_LENGTH:], expected)


def test_without_t5_nothing_of_it_is_loaded(models: dict[str, Path], tmp_path: Path):
    folder = shutil.copytree(models["sd3"], tmp_path / "model")
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(folder / part)
    assert len(open_family({"sd3": folder}, "sd3 none").text_encoders) == 2
    with pytest.raises(UserError, match=r"the text_encoder_3 of .* cannot be loaded"):
        open_family({"sd3": folder}, "sd3")


@pytest.mark.parametrize(
    ("changed", "architecture"),
    [
        ({}, "stable-diffusion-v3.5-medium"),
        ({"dual_attention_layers": ()}, "stable-diffusion-v3.5-large"),
        ({"dual_attention_layers": (), "qk_norm": None}, "stable-diffusion-v3-medium"),
    ],
    ids=str,
)
def test_version_of_stable_diffusion_3_is_recognized(changed: dict, architecture: str, tmp_path: Path):
    assert open_family({"sd3": tiny_sd3(tmp_path / "m", **changed)}, "sd3 none").architecture == architecture


def change(folder: Path, part: str, file: str = "config.json", **values: object) -> None:
    path = folder / part / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("sdxl", lambda f: shutil.rmtree(f / "text_encoder_2"), "the text_encoder_2 of .* cannot be loaded"),
        (
            "sdxl",
            lambda f: change(f, "scheduler", "scheduler_config.json", _class_name="EDMEulerScheduler"),
            "the scheduler of .* EDMEulerScheduler, whose noise schedule is not supported",
        ),
        (
            "sdxl",
            lambda f: change(f, "unet", addition_time_embed_dim=16),
            "sdxl cannot be loaded",
        ),
        (
            "sd3",
            lambda f: change(f, "scheduler", "scheduler_config.json", use_dynamic_shifting=True),
            "the scheduler of .* cannot be loaded",
        ),
        (
            "sd3",
            lambda f: change(f, "scheduler", "scheduler_config.json", _class_name="EulerDiscreteScheduler"),
            "the scheduler of .* cannot be loaded .it is a EulerDiscreteScheduler",
        ),
        ("sd3", lambda f: change(f, "transformer", pooled_projection_dim=8), "cannot be loaded"),
        (
            "sd3",
            lambda f: shutil.copytree(f / "tokenizer_3", f / "tokenizer_2", dirs_exist_ok=True),
            "the tokenizer_2 of .* cannot be loaded",
        ),
        (
            "sd3",
            lambda f: change(f, ".", "model_index.json", _class_name="FluxPipeline"),
            "is a FluxPipeline; this pipeline trains .*: change `model.base`",
        ),
    ],
)
def test_folder_that_does_not_fit_is_refused_in_one_sentence(
    name: str, damage: Callable, message: str, models: dict[str, Path], tmp_path: Path
):
    folder = shutil.copytree(models[name], tmp_path / name)
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        open_family({name: folder}, name)
    assert "\n" not in str(error.value)
