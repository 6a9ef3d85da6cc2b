"""The manifest has a row for every file of the class, whatever the file is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from stages import UserError
from stages.images.quality.manifest import build_manifest
from stages.images.quality.params import Filter
from stages.images.selection.resize import resize_to_square
from tests.images import corpus


def test_every_kind_of_file_has_a_row(tmp_path: Path):
    corpus.write(tmp_path / "raw" / "Thing", 200)
    manifest, features = build_manifest(tmp_path / "raw", Filter(**{"class": "Thing"}), 1)
    assert sorted(manifest["file"]) == sorted(f"Thing/{path.name}" for path in (tmp_path / "raw" / "Thing").iterdir())
    assert ((manifest["verdict"] == "reject") == (manifest["reason"] != "")).all()
    assert ((manifest["detail"] != "") == (manifest["reason"] != "")).all()
    rows = {row["file"].removeprefix("Thing/"): row for row in manifest.to_dict("records")}
    assert [name for name in corpus.valid() if not rows[name]["phash"]] == []
    reasons = {name: reason for name, (_, reason) in corpus.unreadable().items()}
    reasons |= dict.fromkeys(("link.png", "dangling.png", "pipe.png"), "not-a-file")
    assert {name: rows[name]["reason"] for name in reasons} == reasons
    turned = rows["turned.jpg"]
    assert (turned["width"], turned["height"], turned["exif_rotation"]) == (96, 128, 6)
    assert (rows["png called.jpg"]["format"], rows["CMYK.jpg"]["mode"]) == ("PNG", "CMYK")
    assert [rows[f"animated.{form}"]["frames"] for form in ("GIF", "WEBP", "PNG")] == [3, 3, 3]
    assert [rows[f"{name}.png"]["transparent"] for name in ("RGBA", "LA", "RGB")] == [True, True, False]

    again, same_features = build_manifest(tmp_path / "raw", Filter(**{"class": "Thing"}), 2)
    assert again.to_csv() == manifest.to_csv()
    assert (same_features == features).all()


def test_metrics_follow_the_image(tmp_path: Path):
    image, rng = corpus.scene(256, 3), np.random.default_rng(0)
    images = {f"blur{sigma}": image.filter(ImageFilter.GaussianBlur(sigma)) for sigma in (1, 2, 4)}
    images["grain"] = Image.fromarray((np.asarray(image) + rng.normal(0, 25, (256, 256, 3))).clip(0, 255).astype("u1"))
    images["blocky"] = corpus.saved(image, "JPEG", quality=5)
    rows = corpus.rows(corpus.save(tmp_path, clean=image, **images))
    sharpness = [rows[f"{name}.png"]["sharpness"] for name in ("clean", "blur1", "blur2", "blur4")]
    assert sharpness[0] == 1
    assert sharpness[1:3] == pytest.approx([1 / np.sqrt(2 * np.pi), 0.5 / np.sqrt(2 * np.pi)], rel=0.15)
    assert sharpness == sorted(sharpness, reverse=True)
    assert rows["clean.png"]["noise"] < 1
    assert rows["grain.png"]["noise"] == pytest.approx(25 * 0.67, rel=0.3)  # of its luma, clipped at white
    assert rows["blocky.png"]["jpeg_quality"] == 5
    assert (rows["clean.png"]["border_colour"], rows["clean.png"]["border_plain"]) == ("#ebebeb", 1)
    reasons = {name: rows[f"{name}.png"]["reason"] for name in ("blur4", "grain", "blocky")}
    assert reasons == {"blur4": "blurred", "grain": "noisy", "blocky": "jpeg-artifacts"}


def test_best_copy_of_near_duplicates_is_kept(tmp_path: Path):
    image = corpus.scene(256, 3)
    blurred, compressed = image.filter(ImageFilter.GaussianBlur(1.2)), corpus.saved(image, "JPEG", quality=80)
    copies = {"a": blurred, "b": image, "c": image.resize((128, 128)), "d": corpus.scene(256, 11), "e": compressed}
    rows = corpus.rows(corpus.save(tmp_path, **copies))
    assert [row["group"] for row in rows.values()] == [0, 0, 0, 3, 0]
    assert [name for name, row in rows.items() if row["verdict"] == "keep"] == ["b.png", "d.png"]
    assert (rows["a.png"]["reason"], rows["a.png"]["detail"]) == ("duplicate", "of b.png")


def test_mirrored_copy_is_a_duplicate(tmp_path: Path):
    photo = corpus.photo(256, 1)
    mirrored = corpus.saved(ImageOps.mirror(photo).resize((180, 180)), "JPEG", quality=85)
    rows = corpus.rows(corpus.save(tmp_path, a=mirrored, b=corpus.photo(256, 2), c=photo))
    assert [row["group"] for row in rows.values()] == [0, 1, 0]
    assert (rows["a.png"]["reason"], rows["a.png"]["detail"]) == ("duplicate", "of c.png")


def test_foliage_is_not_noise(tmp_path: Path):
    photo, rng = corpus.photo(256, 1), np.random.default_rng(0)
    noisy = (np.asarray(photo) + rng.normal(0, 20, (256, 256, 1))).clip(0, 255).astype("u1")
    rows = corpus.rows(corpus.save(tmp_path, photo=photo, noisy=Image.fromarray(noisy)))
    assert rows["photo.png"]["noise"] > 12
    assert rows["photo.png"]["flat_noise"] < 2
    assert rows["noisy.png"]["flat_noise"] == pytest.approx(20, rel=0.15)
    assert (rows["photo.png"]["reason"], rows["noisy.png"]["reason"]) == ("", "noisy")


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (18, 20, 22)])
@pytest.mark.parametrize("bars", [(70, 0), (0, 50)])
def test_bars_are_cropped(tmp_path: Path, colour: tuple, bars: tuple):
    photo = corpus.photo(256, 3)
    framed = Image.new("RGB", (256 + 2 * bars[0], 256 + 2 * bars[1]), colour)
    framed.paste(photo, bars)
    (row,) = corpus.rows(corpus.save(tmp_path, a=corpus.saved(framed, "JPEG", quality=85))).values()
    assert row["reason"] == ""
    assert (row["width"], row["height"]) == pytest.approx((256, 256), abs=1)
    square, _ = resize_to_square(corpus.saved(framed, "PNG"), 256, "pad", "border")
    assert np.asarray(square).tolist() == np.asarray(photo).tolist()


def test_plain_background_is_no_bar(tmp_path: Path):
    """The subject is narrow, or touches two sides, or leaves at the bottom; the night is black above its horizon."""
    images = {name: Image.new("RGB", (200, 160), "white") for name in ("narrow", "tall", "bust")}
    images["narrow"].paste((200, 60, 20), (60, 30, 140, 130))
    ImageDraw.Draw(images["tall"]).ellipse([60, 0, 140, 159], (200, 60, 20))
    images["bust"].paste((200, 60, 20), (60, 50, 140, 160))
    images["night"] = Image.new("RGB", (200, 160), "black")
    images["night"].paste((90, 120, 30), (0, 100, 200, 160))
    rows = corpus.rows(corpus.save(tmp_path, **images))
    assert {(row["width"], row["height"]) for row in rows.values()} == {(200, 160)}


def test_size_shape_and_contrast_have_limits(tmp_path: Path):
    long, blank = corpus.scene(400, 2).crop((0, 100, 400, 200)), Image.new("RGB", (90, 90), (200, 210, 205))
    rows = corpus.rows(corpus.save(tmp_path, small=corpus.scene(40, 1), long=long, blank=blank))
    assert [rows[f"{name}.png"]["reason"] for name in ("small", "long", "blank")] == ["too-small", "too-long", "blank"]
    assert rows["small.png"]["detail"] == "40 px, at least 48 needed"
    assert rows["long.png"]["detail"] == "aspect ratio 4, at most 3 allowed"


def test_missing_or_empty_class_is_an_error(tmp_path: Path):
    raw = corpus.save(tmp_path)
    (raw / "Charizard").mkdir()
    corpus.scene(64, 1).save(raw / "Charizard" / "a.png")
    with pytest.raises(UserError, match=r"Charizrd\? Charizard has 1 images"):
        corpus.rows(raw, **{"class": "Charizrd"})
    with pytest.raises(UserError, match="there are 2, such as Charizard, Thing"):
        corpus.rows(raw, **{"class": "Xyz"})
    with pytest.raises(UserError, match=r"raw/Thing is empty"):
        corpus.rows(raw)


def test_captions_have_no_row(tmp_path: Path):
    raw = corpus.save(tmp_path, a=corpus.scene(128, 1))
    (raw / "Thing" / "a.png.txt").write_text("a {} with wings")
    (raw / "Thing" / "notes.txt").write_text("of no image")
    assert sorted(corpus.rows(raw)) == ["a.png", "notes.txt"]
