"""The encoders give what transformers gives, one image at a time."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer, Dinov2Model
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from stages import UserError
from stages.scoring.encoders import Clip, Dino

TEXTS = ["a red cat", "a small dragon at night"]


@torch.no_grad()
def test_clip_equals_transformers(clip: Path, images: list[Image.Image]):
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    pixels = CLIPImageProcessorPil.from_pretrained(clip)(images=images, return_tensors="pt")
    expected = model(**pixels, **tokenizer(TEXTS, padding=True, return_tensors="pt"))
    ours = Clip(str(clip), "cpu")
    np.testing.assert_allclose(ours.images(images), expected.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.texts(TEXTS), expected.text_embeds.numpy(), atol=1e-5)
    similarity = expected.logits_per_image / model.logit_scale.exp()
    np.testing.assert_allclose(ours.images(images) @ ours.texts(TEXTS).T, similarity.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours.images(images), axis=1), 1.0)
    assert ours.texts(["a cat " * 100]).shape == (1, 16), "long texts are truncated"


@torch.no_grad()
def test_dino_is_the_class_token(dino: Path, images: list[Image.Image]):
    ours, square = Dino(str(dino), "cpu"), images[0].resize((32, 32))
    pixels = ours._processor(images=square, return_tensors="pt")
    token = Dinov2Model.from_pretrained(dino).eval()(**pixels).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(ours.images([square]), token / np.linalg.norm(token), atol=1e-5)


def test_embedding_depends_on_its_own_image_alone(clip: Path, dino: Path, images: list[Image.Image]):
    for encoder in (Clip(str(clip), "cpu"), Dino(str(dino), "cpu")):
        together = encoder.images(images)
        assert np.array_equal(np.concatenate([encoder.images([image]) for image in images]), together)
        assert np.array_equal(encoder.images([images[0].convert("RGBA")])[0], together[0])


@pytest.mark.parametrize("kind", [Clip, Dino])
def test_models_that_cannot_be_loaded(clip: Path, tmp_path: Path, kind: type):
    key = f"evaluate.{kind.__name__.lower()}"
    for missing in (str(tmp_path / "nowhere"), "nowhere", "starter/nowhere"):
        with pytest.raises(UserError, match=f"the folder {missing} does not exist; correct `{key}`"):
            kind(missing, "cpu")
    copy = shutil.copytree(clip, tmp_path / "copy")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:999])
    with pytest.raises(UserError, match=f"copy cannot be loaded .*`{key}`"):
        kind(str(copy), "cpu")
    weights.rename(copy / "pytorch_model.bin")
    with pytest.raises(UserError, match="is a pickle file"):
        kind(str(copy), "cpu")


def test_dino_is_no_clip(dino: Path):
    with pytest.raises(UserError, match=r"cannot be loaded .*`evaluate.clip`"):
        Clip(str(dino), "cpu")
