"""Whatever is in a class's folder has a row, and the row is right."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from stages import UserError
from stages.images.quality.chunk import measured
from stages.images.quality.manifest import build_manifest
from stages.images.quality.params import Filter
from stages.images.quality.workers import CHUNK
from tests.images import corpus


def rows(raw: Path, workers: int = 1, **filter: object) -> list[dict]:
    section = Filter(**({"class": "Thing", "min_side_px": 48} | filter))
    build_manifest(raw, section, workers, raw.parent / "manifest.csv", raw.parent / "features.npy")
    with (raw.parent / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def by_name(found: list[dict]) -> dict[str, dict]:
    return {row["file"].removeprefix("Thing/"): row for row in found}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    raw = tmp_path_factory.mktemp("hostile") / "raw"
    assert corpus.write(raw / "Thing", 200) == 200
    return raw, rows(raw)


def test_two_hundred_hostile_files_have_a_row_each(hostile: tuple[Path, list[dict]]):
    raw, found = hostile
    assert sorted(row["file"] for row in found) == sorted(f"Thing/{path.name}" for path in (raw / "Thing").iterdir())
    assert all((row["verdict"] == "reject") == bool(row["reason"]) for row in found)
    assert np.load(raw.parent / "features.npy").shape[0] == 200


def test_what_can_be_read_is_and_what_cannot_is_not(hostile: tuple[Path, list[dict]]):
    found = by_name(hostile[1])
    for name in corpus.valid():
        assert found[name]["problem"] == "", name
    for name in [*corpus.none(), "link.png", "dangling.png", "pipe.png"]:
        assert found[name]["problem"] != "", name


def test_what_a_file_is_stands_in_its_row(hostile: tuple[Path, list[dict]]):
    found = by_name(hostile[1])
    turned = found["turned.jpg"]
    assert (turned["width"], turned["height"], turned["exif_rotation"]) == ("96", "128", "6")
    assert found["png called.jpg"]["format"] == "PNG"
    assert [found[f"animated.{end}"]["frames"] for end in ("gif", "webp", "png")] == ["3", "3", "3"]
    assert found["cmyk.jpg"]["mode"] == "CMYK"
    assert found["alpha.png"]["transparent"] == "True"
    assert found["rgb.png"]["transparent"] == "False"
    assert found["empty.jpg"]["reason"] == "empty file"
    assert found["page.jpg"]["reason"] == "not a picture"
    assert "megapixels" in found["bomb.png"]["reason"]
    assert found["cut.jpg"]["reason"] == "truncated"


def test_workers_change_nothing(hostile: tuple[Path, list[dict]]):
    raw, found = hostile
    before = (raw.parent / "features.npy").read_bytes()
    assert rows(raw, workers=2) == found
    assert (raw.parent / "features.npy").read_bytes() == before


def test_what_a_picture_is_measured_with_changes_nothing(hostile: tuple[Path, list[dict]]):
    files = [(str(path), path.name) for path in sorted((hostile[0] / "Thing").iterdir())]
    together, alone = measured(files, 100), [measured([file], 100) for file in files]
    assert together[0] == [rows[0] for rows, _ in alone]
    assert (together[1] == np.concatenate([vectors for _, vectors in alone])).all()


def test_of_many_files_none_is_lost_between_the_workers(tmp_path: Path):
    folder = tmp_path / "raw" / "Thing"
    folder.mkdir(parents=True)
    for i in range(12 * CHUNK + 1):
        Image.new("RGB", (8, 8), (i % 256, i // 256, 0)).save(folder / f"{i:04d}.bmp")
    found = rows(tmp_path / "raw", workers=2)
    assert [row["file"] for row in found] == [f"Thing/{i:04d}.bmp" for i in range(12 * CHUNK + 1)]
    assert found == rows(tmp_path / "raw", workers=1)


def put(tmp_path: Path, **images: Image.Image) -> Path:
    folder = tmp_path / "raw" / "Thing"
    folder.mkdir(parents=True)
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    return tmp_path / "raw"


def test_measures_move_as_the_picture_does(tmp_path: Path):
    image = corpus.scene(256, 3)
    grain = np.random.default_rng(0).normal(0, 25, (256, 256, 3))
    (tmp_path / "raw" / "Thing").mkdir(parents=True)
    image.save(tmp_path / "raw" / "Thing" / "blocky.jpg", quality=5)
    for sigma in (1, 2, 4):
        image.filter(ImageFilter.GaussianBlur(sigma)).save(tmp_path / "raw" / "Thing" / f"blur{sigma}.png")
    Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8)).save(tmp_path / "raw/Thing/grain.png")
    image.save(tmp_path / "raw" / "Thing" / "clean.png")
    found = by_name(rows(tmp_path / "raw"))
    sharp = [float(found[name]["sharpness"]) for name in ("clean.png", "blur1.png", "blur2.png", "blur4.png")]
    assert sharp[0] == 1
    assert sharp[1:3] == pytest.approx([1 / np.sqrt(2 * np.pi), 0.5 / np.sqrt(2 * np.pi)], rel=0.15)
    assert sharp == sorted(sharp, reverse=True)
    assert float(found["clean.png"]["noise"]) < 1
    assert float(found["grain.png"]["noise"]) == pytest.approx(25 * 0.67, rel=0.3)  # of its luma, clipped at white
    assert found["blur4.png"]["reason"].startswith("blurred")
    assert found["grain.png"]["reason"].startswith("noisy")
    assert found["clean.png"]["border_colour"] == "#ebebeb"
    assert float(found["clean.png"]["border_plain"]) == 1


def test_near_duplicates_are_one_group_and_its_best_is_kept(tmp_path: Path):
    image = corpus.scene(256, 3)
    raw = put(
        tmp_path,
        a=image.filter(ImageFilter.GaussianBlur(1.2)),
        b=image,
        c=image.resize((128, 128)),
        d=corpus.scene(256, 11),
    )
    image.save(raw / "Thing" / "e.jpg", quality=80)
    found = by_name(rows(raw))
    assert {found[name]["group"] for name in ("a.png", "b.png", "c.png", "e.jpg")} == {"0"}
    assert found["d.png"]["group"] == "3"
    assert [name for name in found if found[name]["verdict"] == "keep"] == ["b.png", "d.png"]
    assert found["a.png"]["reason"] == "duplicate of b.png"


def test_small_long_and_empty_are_said_so(tmp_path: Path):
    raw = put(
        tmp_path,
        small=corpus.scene(40, 1),
        long=corpus.scene(400, 2).crop((0, 100, 400, 200)),
        empty=Image.new("RGB", (90, 90), (200, 210, 205)),
    )
    found = by_name(rows(raw))
    assert {name: row["reason"].split(":")[0] for name, row in found.items()} == {
        "small.png": "small",
        "long.png": "long",
        "empty.png": "empty",
    }


def test_a_class_that_is_not_there_gives_the_nearest(tmp_path: Path):
    raw = put(tmp_path, a=corpus.scene(64, 1), b=corpus.scene(64, 2))
    (raw / "Thing").rename(raw / "Charizard")
    with pytest.raises(UserError, match=r"Charizrd\? Charizard has 2 pictures"):
        rows(raw, **{"class": "Charizrd"})
    with pytest.raises(UserError, match="there are 1, such as Charizard"):
        rows(raw, **{"class": "Xyz"})


def test_a_class_without_files_is_one_sentence(tmp_path: Path):
    (tmp_path / "raw" / "Thing").mkdir(parents=True)
    with pytest.raises(UserError, match=r"raw/Thing is empty"):
        rows(tmp_path / "raw")
