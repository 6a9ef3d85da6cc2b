"""Folders of any structure become class folders, without a loss and with safe names."""

import hashlib
import os
from pathlib import Path, PurePosixPath

import pytest

from stages import UserError
from stages.images.sources.layout import class_of, safe
from tests.images.conftest import fetched

TAG = "-" + hashlib.sha256(b"2").hexdigest()[:8]


def arranged(folder: Path, files: dict[str, bytes]) -> tuple[dict, dict[str, bytes]]:
    """Write files to folder/Rex and fetch it."""
    for name, content in files.items():
        path = folder / "Rex" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return fetched(folder, source="folder", path=str(folder / "Rex"))


def test_class_is_the_innermost_folder_that_is_no_split_or_wrapper():
    for path in ("Cat/a.jpg", "data/dataset/Cat/a.jpg", "train/Cat/a.jpg", "Cat/test/a.jpg", "v2/images/Cat/a.jpg"):
        assert class_of(PurePosixPath(path), "mine") == "Cat"
    assert class_of(PurePosixPath("v2/Images/Mr. Mime/a.jpg"), "mine") == "Mr. Mime"
    assert class_of(PurePosixPath("images/a.jpg"), "mine") == class_of(PurePosixPath("a.jpg"), "mine") == "mine"
    assert class_of(PurePosixPath("-rf/a.jpg"), "mine") == "rf"


def test_nested_copies_and_equal_names(tmp_path: Path):
    files = {"dataset/Cat/1.jpg": b"1", "dataset/dataset/Cat/1.jpg": b"1", "train/Cat/1.jpg": b"2"}
    files |= {"train/Dog/1.jpg": b"1", "readme.txt": b"words", "Cat/.DS_Store": b"x"}
    receipt, kept = arranged(tmp_path, files)
    assert kept == {"Cat/1.jpg": b"1", f"Cat/1{TAG}.jpg": b"2", "Dog/1.jpg": b"1"}
    assert receipt["classes"] == {"Cat": 2, "Dog": 1}
    assert receipt["left_out"] == {"beside the class folders, no image": 1, "equal content": 1, "system file": 1}


@pytest.mark.parametrize(
    "names",
    [
        ["Cat/a?.png", "Cat/a_.png"],
        ["Cat/a?.png", "Cat/a_.png", f"Cat/a_{TAG}.png"],
        ["Cat/A.png", "Cat/a.png"],
        ["Cat/a.png", "cat/A.png"],
        ["Cat/\u00e9.png", "Cat/e\u0301.png"],
        ["Cat/" + "y" * 200 + ".png", "Cat/" + "y" * 201 + ".png"],
    ],
)
def test_similar_names_do_not_overwrite_each_other(tmp_path: Path, names: list[str]):
    receipt, kept = arranged(tmp_path, {name: str(i).encode() for i, name in enumerate(names, 1)})
    assert sorted(kept.values()) == [b"1", b"2", b"3"][: len(names)]
    assert len({path.casefold() for path in kept}) == receipt["files"] == receipt["bytes"] == len(names)


UNSAFE = ["a\nb.jpg", "q\"'`$(x).jpg", "-rf.jpg", "...", "..", "CON.png", "con. ", "con." * 40, "é" * 200 + ".jpeg"]
UNSAFE += ["\udcff", "\ud800" * 99, "a\u202egpj.exe", "\u2066a", "a\u200b", "x. ", " .-x", "a:b", "-" * 300, ""]


@pytest.mark.parametrize("name", UNSAFE)
def test_safe_name(name: str):
    made = safe(name)
    assert made == safe(made)
    assert 1 <= len(made.encode()) <= 120
    assert made.isprintable()
    assert not set(made) & set('/\\<>:"|?*')
    assert made[0] not in " -."
    assert made[-1] not in " ."
    assert made.partition(".")[0].casefold() != "con"
    assert made.endswith(".jpeg") == name.endswith(".jpeg")


def test_flat_folder_is_one_class_whatever_the_path(tmp_path: Path):
    receipt, kept = arranged(tmp_path / "one", {f"{i}.png": bytes([i]) for i in range(9)})
    assert kept == {f"Rex/{i}.png": bytes([i]) for i in range(9)}
    assert receipt == arranged(tmp_path / "two", {f"{i}.png": bytes([i]) for i in reversed(range(9))})[0]


def test_links_and_special_files_are_left_out(tmp_path: Path):
    folder = tmp_path / "Rex" / "Cat"
    folder.mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "b.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "Rex" / "Dog").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    receipt, kept = arranged(tmp_path, {"Cat/a.png": b"a"})
    assert (kept, receipt["left_out"]) == ({"Cat/a.png": b"a"}, {"link": 2, "special file": 1})


@pytest.mark.parametrize("source", ["folder", "archive"])
@pytest.mark.parametrize("path", ["none", "text", "empty"])
def test_no_images(tmp_path: Path, source: str, path: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("x")
    with pytest.raises(UserError, match=path):
        fetched(tmp_path, source=source, path=str(tmp_path / path))


def test_captions_follow_their_images(tmp_path: Path):
    files = {"Cat/a?.jpg": b"1", "Cat/a?.txt": b"one", "Cat/a_.png": b"2", "Cat/a_.txt": b"two", "Cat/b.jpg": b"3"}
    files |= {"Cat/c.jpg": b"4", "Cat/c.png": b"5", "Cat/c.txt": b"both", "Cat/notes.txt": b"of no image"}
    files |= {"Cat/b.jpg.txt": b"not the caption's name", "d.jpg": b"6", "d.txt": b"beside the class folders"}
    receipt, kept = arranged(tmp_path, files)
    captions = {
        name: text for name, text in kept.items() if name.endswith(".txt") and name.removesuffix(".txt") in kept
    }
    assert captions == {
        "Cat/a_.jpg.txt": b"one",
        "Cat/a_.png.txt": b"two",
        "Cat/c.jpg.txt": b"both",
        "Cat/c.png.txt": b"both",
        "Rex/d.jpg.txt": b"beside the class folders",
    }
    assert (receipt["captions"], receipt["files"]) == (5, 8)
    assert kept["Cat/notes.txt"] == b"of no image"


def test_linked_caption_is_left_out(tmp_path: Path):
    (tmp_path / "Rex" / "Cat").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "Rex" / "Cat" / "a.txt").symlink_to(tmp_path / "secret")
    receipt, kept = arranged(tmp_path, {"Cat/a.jpg": b"1"})
    assert (kept, receipt["left_out"], receipt["captions"]) == ({"Cat/a.jpg": b"1"}, {"link": 1}, 0)
