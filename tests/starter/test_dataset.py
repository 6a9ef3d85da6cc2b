"""The class folders: 52 files with every defect of real sets, and the truth about them."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from starter import attribute_classifier
from starter.world.attributes import EMBERWING
from starter.world.dataset import COUNTS, USABLE, build, creature_of, truth

NAME = "Emberwing"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("class")
    build(home)
    return home / NAME


def files(folder: Path, defect: str) -> list[Path]:
    return [folder / file for file, known in truth().items() if known.defect == defect]


def opened(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(path.read_bytes())))


def test_the_folder_is_as_the_truth_says(folder: Path):
    known = truth()
    assert len(known) == 52
    assert {path.name for path in folder.iterdir()} == set(known)
    assert all(len(Path(file).stem) == 32 and set(Path(file).stem) <= set("0123456789abcdef") for file in known)
    assert Counter(k.defect for k in known.values()) == COUNTS
    assert all(k.usable == (k.defect in USABLE) for k in known.values())


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path):
    build(tmp_path)
    assert all((tmp_path / NAME / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())


def test_other_classes_are_other_creatures(tmp_path: Path):
    assert creature_of(NAME) == creature_of(NAME, 7) == EMBERWING
    others = {creature_of(name) for name in ("Frostpaw", "Mossling", "Duskwing")}
    assert len(others) == 3
    assert EMBERWING not in others
    assert not set(truth("Frostpaw")) & set(truth())
    assert not set(truth(NAME, 1)) & set(truth())


def test_what_is_usable_opens_and_is_large_enough(folder: Path):
    for file, known in truth().items():
        if known.usable:
            image = opened(folder / file)
            assert min(image.size) >= 200
            assert known.pose
            assert known.scene
    assert len({known.pose for known in truth().values() if known.usable}) >= 12


def test_defects_are_there(folder: Path):
    for path in files(folder, "tiny"):
        assert max(opened(path).size) < 96
    for path in [*files(folder, "truncated"), *files(folder, "unreadable")]:
        with pytest.raises(OSError):
            opened(path).convert("RGB")
    for path in files(folder, "transparent"):
        alpha = np.asarray(Image.open(path).getchannel("A"))
        assert alpha.min() == 0
        assert alpha.max() == 255
    formats = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG"}
    for path in files(folder, "misnamed"):
        assert Image.open(path).format != formats[path.suffix[1:]]
    for path in files(folder, "clean"):
        assert Image.open(path).format == formats[path.suffix[1:]]


def test_a_rotated_file_stands_upright_when_held_as_exif_says(folder: Path):
    eyes = attribute_classifier.load()
    for path in files(folder, "rotated"):
        assert Image.open(path).getexif()[0x0112] in (3, 6, 8)
        x = torch.from_numpy(np.array(opened(path).convert("RGB").resize((128, 128)))).permute(2, 0, 1)[None]
        (said,) = eyes.predict(x.float() / 127.5 - 1)
        assert said["scene"] == truth()[path.name].scene
        assert (said["kind"], said["body"], said["tail"]) == ("dragon", "orange", "flame")


def test_a_duplicate_is_its_original_made_smaller(folder: Path):
    for file, known in truth().items():
        if known.copy_of:
            copy, original = opened(folder / file).convert("L"), opened(folder / known.copy_of).convert("L")
            assert copy.width < original.width
            difference = np.abs(np.asarray(original.resize(copy.size), float) - np.asarray(copy, float))
            assert difference.mean() < 4
