"""Off-class images are found by their colours, or by CLIP."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from stages import UserError
from stages.images.quality.clip import clip_embeddings
from stages.images.quality.features import WIDTH
from stages.images.quality.manifest import build_manifest
from stages.images.quality.outliers import LEAST_SPREAD, NEAREST, class_distances, nearest_classes
from stages.images.quality.params import Filter
from tests.closure import ROOT
from tests.images import corpus
from tests.tiny import tiny_clip

PARAMS = {"class": "Thing", "duplicate_distance": 0, "max_blocking": 100}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of one kind and two of another."""
    images = {}
    for i in range(14):
        images[f"{i:02d}"] = image = Image.new("RGB", (96, 96), "white")
        image.paste((200, 60, 20) if i < 12 else (30, 180, 15 * i), (10 + 3 * i, 20, 50 + 3 * i, 80 - 2 * i))
        image.paste((20, 20, 90) if i < 12 else (250, 220, 40), (20 + 2 * i, 30, 40 + i, 40 + i))
    return corpus.save(tmp_path_factory.mktemp("outliers"), **images)


def test_outliers_are_found_by_colour_and_without_torch(raw: Path):
    rows = corpus.rows(raw, **PARAMS)
    assert [name for name, row in rows.items() if row["reason"] == "off-class"] == ["12.png", "13.png"]
    code = "import sys, stages.filter; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_clip_gives_distances_and_features(raw: Path, tmp_path: Path):
    """The images are square and need no padding, so that the library's own processor gives the same input."""
    folder, files = str(tiny_clip(tmp_path / "clip")), sorted((raw / "Thing").iterdir())
    by_colour, descriptors = build_manifest(raw, Filter(**PARAMS), 1)
    by_clip, features = build_manifest(raw, Filter(**PARAMS, clip=folder), 1)
    assert by_clip["class_distance"].tolist() != by_colour["class_distance"].tolist()
    assert (descriptors.shape, features.shape) == ((14, WIDTH), (14, WIDTH + 16))
    assert (features[:, :WIDTH] == descriptors).all()
    assert np.linalg.norm(features[:, WIDTH:].astype(float), axis=1) == pytest.approx(np.ones(14), abs=2e-3)
    model = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    inputs = CLIPImageProcessor.from_pretrained(folder)([Image.open(file) for file in files], return_tensors="pt")
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(model(**inputs).image_embeds, dim=-1).numpy()
    embeddings = clip_embeddings(folder, [None, *files])
    assert embeddings[1:] == pytest.approx(expected, abs=0.02)
    assert not embeddings[0].any()


def test_image_nearer_to_another_class_is_off_class(raw: Path, tmp_path: Path):
    folder = str(tiny_clip(tmp_path / "clip"))
    images = {"Thing": sorted((raw / "Thing").iterdir()), "Other": sorted((raw / "Thing").iterdir())[12:]}
    for name, files in images.items():
        (tmp_path / "raw" / name).mkdir(parents=True)
        for file in files:
            shutil.copy(file, tmp_path / "raw" / name)
    (tmp_path / "raw" / "Other" / "broken.png").write_bytes(b"nothing")
    (tmp_path / "raw" / "Empty").mkdir()
    rows = corpus.rows(tmp_path / "raw", **PARAMS, max_class_distance=1000, clip=folder)
    assert list(rows) == [file.name for file in images["Thing"]]
    rejected = {name: (row["reason"], row["detail"]) for name, row in rows.items() if row["reason"]}
    assert rejected == dict.fromkeys(["12.png", "13.png"], ("off-class", "nearer to Other"))
    assert {row["nearest_class"] for row in corpus.rows(tmp_path / "raw", **PARAMS).values()} == {None}


def test_nearest_class_is_that_of_the_nearest_mean():
    rng = np.random.default_rng(0)
    vectors, classes, usable = rng.normal(size=(60, 5)), [f"{i % 4}" for i in range(60)], np.arange(60) % 5 > 0
    means = [vectors[usable & (np.arange(60) % 4 == i)].mean(axis=0) for i in range(4)]
    expected = [f"{np.argmin([np.linalg.norm(vector - mean) for mean in means])}" for vector in vectors]
    assert nearest_classes(vectors, classes, usable) == expected
    assert nearest_classes(vectors, classes, np.zeros(60, bool)) == classes


def test_broken_clip_is_an_error(raw: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere does not exist; correct `filter\.clip`"):
        corpus.rows(raw, clip=str(tmp_path / "nowhere"))
    folder = tiny_clip(tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if k != "visual_projection.weight"}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"visual_projection.weight is missing.*filter\.clip"):
        corpus.rows(raw, clip=str(folder))


def test_class_distances_are_those_of_every_pair():
    vectors = np.random.default_rng(0).normal(1, 0.4, (40, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    usable = np.arange(40) % 4 != 0
    cosine = 1 - vectors @ vectors.T
    np.fill_diagonal(cosine, np.inf)
    nearest = np.sort(cosine[:, usable], axis=1)[:, :NEAREST].mean(axis=1)
    usual = np.median(nearest[usable])
    spread = max(1.4826 * np.median(np.abs(nearest[usable] - usual)), LEAST_SPREAD)
    assert class_distances(vectors, usable) == pytest.approx((nearest - usual) / spread, abs=0.011)
    assert class_distances(vectors, np.arange(40) < 7) == [None] * 40
