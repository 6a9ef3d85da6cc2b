"""The images of the other classes."""

from pathlib import Path

import pytest
from PIL import Image

from stages import UserError
from stages.images.selection.gallery import MAX_CLASSES, read_gallery


def write(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (60, 20), "red").save(folder / name)


def test_gallery_has_the_first_readable_images_of_the_other_classes(tmp_path: Path):
    write(tmp_path / "Own", "a.png")
    write(tmp_path / "Other", "c.png", "b.png", "d.png")
    write(tmp_path / "Empty")
    write(tmp_path / ".hidden", "a.png")
    (tmp_path / "Other" / "a.png").write_bytes(b"no image")
    (tmp_path / "Other" / "a.png.txt").write_text("a caption")
    gallery = read_gallery(tmp_path, "Own", 2, 30)
    assert {name: len(images) for name, images in gallery.items()} == {"Other": 2}
    assert {image.size for image in gallery["Other"]} == {(30, 30)}
    assert gallery["Other"][0].getpixel((15, 1)) == (255, 255, 255), "padded, not cropped"
    assert read_gallery(tmp_path, "Own", 0, 30) == {}
    with pytest.raises(UserError, match="dvc repro download"):
        read_gallery(tmp_path / "nowhere", "Own", 2, 30)


def test_very_many_classes_are_thinned_out(tmp_path: Path):
    for i in range(MAX_CLASSES + 50):
        write(tmp_path / f"{i:03d}", "a.png")
    names = list(read_gallery(tmp_path, "Own", 1, 8))
    assert len(names) == MAX_CLASSES
    assert (names[0], names[-1]) == ("000", f"{MAX_CLASSES + 49:03d}")
