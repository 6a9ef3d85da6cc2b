"""The encoders: transformers' own way is the measure of ours."""

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

CPU = torch.device("cpu")


@torch.no_grad()
def test_clip_sees_and_reads_as_its_model_does(clip: Path, pictures: list[Image.Image]):
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    seen = CLIPImageProcessorPil.from_pretrained(clip)(images=pictures, return_tensors="pt")
    texts = ["a red cat", "a small dragon at night"]
    read = tokenizer(texts, padding=True, return_tensors="pt")
    both = model(**seen, **read)
    ours = Clip(str(clip), CPU)
    np.testing.assert_allclose(ours.pictures(pictures), both.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.sentences(texts), both.text_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours.pictures(pictures), axis=1), 1.0)


def test_no_picture_depends_on_its_neighbours(clip: Path, dino: Path, pictures: list[Image.Image]):
    for encoder in (Clip(str(clip), CPU), Dino(str(dino), CPU)):
        together = encoder.pictures(pictures)
        for i, picture in enumerate(pictures):
            assert np.array_equal(encoder.pictures([picture])[0], together[i])


def test_transparency_and_grey_are_no_obstacle(clip: Path, pictures: list[Image.Image]):
    ours = Clip(str(clip), CPU)
    assert np.array_equal(ours.pictures([pictures[0].convert("RGBA")]), ours.pictures(pictures[:1]))
    assert ours.pictures([pictures[0].convert("L")]).shape == (1, 16)


def test_a_sentence_longer_than_the_model_reads_is_cut(clip: Path):
    ours = Clip(str(clip), CPU)
    assert ours.sentences(["a cat " * 100]).shape == (1, 16)


@torch.no_grad()
def test_dino_is_the_class_token(dino: Path, pictures: list[Image.Image]):
    ours = Dino(str(dino), CPU)
    square = pictures[0].resize((32, 32))
    looks = ours._processor(images=square, return_tensors="pt")
    token = Dinov2Model.from_pretrained(dino).eval()(**looks).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(ours.pictures([square]), token / np.linalg.norm(token), atol=1e-5)


@pytest.mark.parametrize("kind", [Clip, Dino])
def test_what_cannot_be_opened_is_one_sentence(clip: Path, tmp_path: Path, kind: type):
    key = f"evaluate.{kind.__name__.lower()}"
    for wrong in (str(tmp_path / "nowhere"), "nowhere", "starter/nowhere"):
        with pytest.raises(UserError, match=f"the folder {wrong} is not here; mend `{key}`"):
            kind(wrong, CPU)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=rf"empty cannot be read as a model of `{key}`"):
        kind(str(tmp_path / "empty"), CPU)
    pickled = shutil.copytree(clip, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be read as a model"):
        kind(str(pickled), CPU)
    damaged = shutil.copytree(clip, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes((clip / "model.safetensors").read_bytes()[:999])
    with pytest.raises(UserError, match="cannot be read as a model"):
        kind(str(damaged), CPU)


def test_another_kind_of_model_is_no_clip(dino: Path):
    with pytest.raises(UserError, match=r"cannot be read as a model of `evaluate.clip`"):
        Clip(str(dino), CPU)
