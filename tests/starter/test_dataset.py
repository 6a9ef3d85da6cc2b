"""The class folders: 52 files with the defects of downloaded datasets, and the ground truth of each."""

import functools
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from starter import attribute_classifier
from starter.world.attributes import EMBERWING
from starter.world.dataset import COUNTS, IMAGES_EACH, OTHERS, USABLE, build, build_others, creature_of, truth

NAME = "Emberwing"
FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG"}


cached_truth = functools.cache(truth)  # draws all images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("raw")
    build(raw)
    return raw / NAME


def files(folder: Path, *defects: str) -> list[Path]:
    return [folder / file for file, row in cached_truth().items() if row.defect in defects]


def open_upright(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(path.read_bytes())))


def test_folder_matches_truth(folder: Path):
    rows = cached_truth()
    assert len(rows) == 52
    assert {path.name for path in folder.iterdir()} == set(rows)
    assert all(len(Path(file).stem) == 32 and set(Path(file).stem) <= set("0123456789abcdef") for file in rows)
    assert Counter(row.defect for row in rows.values()) == COUNTS
    assert all(row.usable == (row.defect in USABLE) for row in rows.values())


def test_equal_seeds_give_equal_bytes(folder: Path, tmp_path: Path):
    build(tmp_path)
    assert all((tmp_path / NAME / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())


def test_other_names_and_seeds_give_other_creatures_and_files():
    assert creature_of(NAME) == creature_of(NAME, 7) == EMBERWING
    others = {creature_of(name) for name in ("Frostpaw", "Mossling", "Duskwing")}
    assert len(others) == 3
    assert EMBERWING not in others
    assert not set(truth("Frostpaw")) & set(cached_truth())
    assert not set(truth(NAME, 1)) & set(cached_truth())


def test_other_classes_have_images_of_creatures_with_a_name(tmp_path: Path):
    build_others(tmp_path)
    classes = sorted(path.name for path in tmp_path.iterdir())
    assert len(classes) == OTHERS
    assert NAME not in classes
    for name in classes:
        images = [open_upright(path) for path in (tmp_path / name).iterdir()]
        assert len(images) == IMAGES_EACH
        assert min(image.width for image in images) >= 200


def test_usable_files_are_readable_and_large_enough(folder: Path):
    usable = {file: row for file, row in cached_truth().items() if row.usable}
    for file, row in usable.items():
        assert min(open_upright(folder / file).size) >= 200
        assert row.pose
        assert row.scene
    assert len({row.pose for row in usable.values()}) >= 12


def test_files_have_the_defects_of_the_truth(folder: Path):
    for path in files(folder, "tiny"):
        assert max(open_upright(path).size) < 96
    for path in files(folder, "truncated", "unreadable"):
        with pytest.raises(OSError):
            open_upright(path).convert("RGB")
    for path in files(folder, "transparent"):
        alpha = np.asarray(Image.open(path).getchannel("A"))
        assert (alpha.min(), alpha.max()) == (0, 255)
    for path in files(folder, "misnamed", "clean"):
        is_misnamed = cached_truth()[path.name].defect == "misnamed"
        assert (Image.open(path).format != FORMATS[path.suffix[1:]]) == is_misnamed


def test_exif_orientation_undoes_the_rotation(folder: Path):
    classifier = attribute_classifier.load()
    for path in files(folder, "rotated"):
        assert Image.open(path).getexif()[0x0112] in (3, 6, 8)
        x = torch.from_numpy(np.array(open_upright(path).convert("RGB").resize((128, 128)))).permute(2, 0, 1)[None]
        (prediction,) = classifier.predict(x.float() / 127.5 - 1)
        assert prediction["scene"] == cached_truth()[path.name].scene
        assert (prediction["kind"], prediction["body"], prediction["tail"]) == ("dragon", "orange", "flame")


def test_duplicates_are_smaller_copies_of_their_originals(folder: Path):
    duplicates = {file: row for file, row in cached_truth().items() if row.copy_of}
    assert len(duplicates) == COUNTS["duplicate"]
    for file, row in duplicates.items():
        copy, original = (open_upright(folder / name).convert("L") for name in (file, row.copy_of))
        assert copy.width < original.width
        difference = np.abs(np.asarray(original.resize(copy.size), float) - np.asarray(copy, float))
        assert difference.mean() < 4
