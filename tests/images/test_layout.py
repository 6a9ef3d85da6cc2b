"""Any nesting => class folders."""

import os
from pathlib import Path, PurePosixPath

import pytest

from stages import UserError
from stages.images.sources.fetch import fetch
from stages.images.sources.layout import class_of
from stages.images.sources.names import LONGEST, safe
from stages.images.sources.params import Dataset


def put(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def take(folder: Path, raw: Path) -> dict:
    return fetch(Dataset(source="folder", path=str(folder)), raw, raw.parent / "scratch")


def names(raw: Path) -> list[str]:
    return sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("Charizard/a.jpg", "Charizard"),
        ("dataset/Charizard/a.jpg", "Charizard"),
        ("dataset/dataset/Charizard/a.jpg", "Charizard"),
        ("train/Charizard/a.jpg", "Charizard"),
        ("Charizard/test/a.jpg", "Charizard"),
        ("pokemon-v2/images/Mr. Mime/a.jpg", "Mr. Mime"),
        ("a.jpg", "mine"),
        ("images/a.jpg", "mine"),
        ("-rf/a.jpg", "_rf"),
    ],
)
def test_the_class_is_the_nearest_folder_that_means_something(path: str, wanted: str):
    assert class_of(PurePosixPath(path), "mine") == wanted


def test_nested_copies_are_kept_once_and_equal_names_apart(tmp_path: Path):
    files = {
        "dataset/Cat/1.jpg": b"one",
        "dataset/dataset/Cat/1.jpg": b"one",
        "train/Cat/1.jpg": b"other",
        "train/Dog/1.jpg": b"one",
        "dataset/Cat/1.JPG": b"third",
        "readme.txt": b"words",
        "Cat/.DS_Store": b"x",
    }
    receipt = take(put(tmp_path / "set", **files), tmp_path / "raw")
    assert receipt["classes"] == {"Cat": 3, "Dog": 1}
    left_out = {"beside the class folders, no picture": 1, "equal content": 1, "system file": 1}
    assert receipt["left_out"] == left_out
    assert len({name.casefold() for name in names(tmp_path / "raw")}) == 4
    assert sum(receipt["left_out"].values()) + receipt["files"] == len(files)


def test_a_flat_folder_is_a_class_of_its_name(tmp_path: Path):
    receipt = take(put(tmp_path / "Rex", **{"a.png": b"a", "b.png": b"b"}), tmp_path / "raw")
    assert names(tmp_path / "raw") == ["Rex/a.png", "Rex/b.png"]
    assert str(tmp_path) not in str(receipt)


def test_links_are_not_followed_and_what_is_left_out_is_counted(tmp_path: Path):
    put(tmp_path, **{"set/Cat/a.png": b"a", "secret.png": b"secret"})
    (tmp_path / "set" / "Cat" / "b.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "set" / "Dog").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "set" / "Cat" / "pipe.png")
    receipt = take(tmp_path / "set", tmp_path / "raw")
    assert receipt["classes"] == {"Cat": 1}
    assert receipt["left_out"] == {"link": 2, "special file": 1}


@pytest.mark.parametrize(
    "name",
    ["a\nb.jpg", "q\"'`$(x).jpg", "-rf.jpg", "...", "CON.png", "é" * 200 + ".jpeg", "a\u202egpj.exe", "x. ", "\udcff"],
)
def test_a_name_becomes_safe_and_stays_so(name: str):
    made = safe(name)
    assert made == safe(made)
    assert made
    assert made[0] not in "-."
    assert len(made.encode()) <= LONGEST
    assert made.isprintable()
    assert not set(made) & set('/\\<>:"|?*')


def test_the_same_set_gives_the_same_receipt(tmp_path: Path):
    first = put(tmp_path / "one" / "set", **{f"Cat/{i}.png": bytes([i]) for i in range(9)})
    second = put(tmp_path / "two" / "set", **{f"Cat/{i}.png": bytes([i]) for i in reversed(range(9))})
    assert take(first, tmp_path / "a" / "raw") == take(second, tmp_path / "b" / "raw")


@pytest.mark.parametrize("what", ["nowhere", "file", "empty"])
def test_no_pictures_is_one_sentence(what: str, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError):
        take(tmp_path / what, tmp_path / "raw")
