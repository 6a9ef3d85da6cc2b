"""What is not of the class: told by colours alone, or by CLIP where one is named."""

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
from stages.images.quality.clip import Clip
from stages.images.quality.outliers import LEAST_SPREAD, NEAREST, class_distances
from stages.images.quality.row import WIDTH
from tests.closure import ROOT
from tests.images.test_manifest import by_name, rows
from tests.tiny import tiny_clip


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of one kind, and two strangers among them."""
    folder = tmp_path_factory.mktemp("strangers") / "raw" / "Thing"
    folder.mkdir(parents=True)
    for i in range(12):
        image = Image.new("RGB", (96, 96), "white")
        image.paste((200, 60, 20), (10 + 3 * i, 20, 50 + 3 * i, 80 - 2 * i))
        image.paste((20, 20, 90), (20 + 2 * i, 30, 40 + i, 40 + i))
        image.save(folder / f"like{i:02d}.png")
    for i in range(2):
        image = Image.new("RGB", (96, 96), "white")
        image.paste((30, 180, 60 + 60 * i), (20, 10 + 20 * i, 70, 60))
        image.paste((250, 220, 40), (30 + 9 * i, 20, 50, 50))
        image.save(folder / f"stranger{i}.png")
    return folder.parent


def test_a_stranger_is_told_by_its_colours_and_by_no_model(strangers: Path):
    found = by_name(rows(strangers, duplicate_distance=0))
    assert {name for name, row in found.items() if row["reason"].startswith("off-class")} == {
        "stranger0.png",
        "stranger1.png",
    }
    assert np.load(strangers.parent / "features.npy").shape == (14, WIDTH)


def test_with_clip_the_distance_is_clips_and_its_features_are_kept(strangers: Path, tmp_path: Path):
    by_colour = by_name(rows(strangers, duplicate_distance=0))
    clip = str(tiny_clip(tmp_path / "clip"))
    by_clip = by_name(rows(strangers, duplicate_distance=0, clip=clip))
    assert {row["class_distance"] for row in by_clip.values()} != {row["class_distance"] for row in by_colour.values()}
    features = np.load(strangers.parent / "features.npy").astype(np.float32)
    assert features.shape == (14, WIDTH + 16)
    assert np.linalg.norm(features[:, :WIDTH], axis=1) == pytest.approx(np.ones(14), abs=2e-3)
    assert np.linalg.norm(features[:, WIDTH:], axis=1) == pytest.approx(np.ones(14), abs=2e-3)
    assert rows(strangers, workers=2, duplicate_distance=0, clip=clip) == list(by_clip.values())
    with pytest.raises(UserError, match=r"filter\.clip .*nowhere is no CLIP model"):
        rows(strangers, clip=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("fault", ["a pickle", "a weight missing"])
def test_a_clip_is_read_from_safetensors_and_whole_or_not_at_all(strangers: Path, tmp_path: Path, fault: str):
    folder = tiny_clip(tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    if fault == "a pickle":
        torch.save(weights, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    else:
        save_file({k: v for k, v in weights.items() if k != "visual_projection.weight"}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"filter\.clip .* is no CLIP model"):
        rows(strangers, clip=str(folder))


def test_clips_own_processor_sees_what_our_eye_sees(strangers: Path, tmp_path: Path):
    """A square picture needs no padding: there the eye must give what transformers' own classes give."""
    file = strangers / "Thing" / "stranger0.png"
    folder = tiny_clip(tmp_path / "clip")
    model = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    with torch.inference_mode():
        seen = CLIPImageProcessor.from_pretrained(folder)(Image.open(file), return_tensors="pt")
        wanted = torch.nn.functional.normalize(model(**seen).image_embeds, dim=-1)[0].numpy()
    assert next(Clip(str(folder)).features([file])) == pytest.approx(wanted, abs=0.02)


def test_without_clip_the_filter_does_not_import_torch(strangers: Path):
    code = (
        "import sys; from pathlib import Path; from stages.images.quality.params import Filter; import stages.filter; "
        "from stages.images.quality.manifest import build_manifest; raw = Path(sys.argv[1]); "
        "build_manifest(raw, Filter(**{'class': 'Thing'}), 1, raw.parent / 'm.csv', raw.parent / 'f.npy'); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(strangers)], cwd=ROOT, check=True)


def test_distances_are_those_of_every_pair_and_few_are_not_judged():
    random = np.random.default_rng(0)
    vectors = random.normal(1, 0.4, (40, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    usable = np.arange(40) % 4 != 0
    apart = []
    for i, one in enumerate(vectors):
        others = [1 - one @ vectors[j] for j in np.flatnonzero(usable) if j != i]
        apart.append(np.mean(sorted(others)[:NEAREST]))
    apart = np.array(apart)
    usual = np.median(apart[usable])
    spread = max(1.4826 * np.median(np.abs(apart[usable] - usual)), LEAST_SPREAD)
    assert class_distances(vectors, usable) == pytest.approx((apart - usual) / spread, abs=0.011)
    assert class_distances(vectors, np.arange(40) < 7) is None
