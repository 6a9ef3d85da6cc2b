"""Archives that nobody vouches for: ten kinds of malice, each refused whole, with nothing outside and nothing left."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from stages import UserError
from stages.images.sources.fetch import fetch
from stages.images.sources.params import Dataset


def picture(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 90, 200)).save(file, "PNG")
    return file.getvalue()


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed:
        packed.writestr("Cat/good.png", picture())
        for name, content in entries:
            packed.writestr(name, content)
    return file.getvalue()


def tarred(*entries: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as packed:
        for info, content in [(tarfile.TarInfo("Cat/good.png"), picture()), *entries]:
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return file.getvalue()


def tar_kind(kind: bytes, name: str = "Cat/bad.png", link: str = "/etc/passwd") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return tarred((info, b""))


def zip_kind(mode: int) -> bytes:
    info = zipfile.ZipInfo("Cat/bad.png")
    info.create_system, info.external_attr = 3, mode << 16
    return zipped((info, b"/etc/passwd"))


def encrypted() -> bytes:
    content = bytearray(zipped(("Cat/secret.png", picture(5))))
    central = content.rindex(b"PK\x01\x02")
    content[central + 8] |= 1
    return bytes(content)


def wrong_crc() -> bytes:
    content = bytearray(zipped(("Cat/bad.png", picture(7))))
    content[content.index(picture(7)) + 30] ^= 0xFF
    return bytes(content)


def twice() -> bytes:
    with pytest.warns(UserWarning):
        return zipped(("Cat/good.png", picture(9)))


def lying_size() -> bytes:
    """The entry says 10 bytes and packs 64 MiB."""
    content = bytearray(zipped(("Cat/bad.png", bytes(64 << 20)), method=zipfile.ZIP_DEFLATED))
    central = content.rindex(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", 10)
    return bytes(content)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "traversal": (lambda: zipped(("Cat/../../../outside.png", picture(1))), "leads outside"),
    "traversal in backslashes": (lambda: zipped(("Cat\\..\\..\\outside.png", picture(1))), "leads outside"),
    "traversal in a tar": (lambda: tarred((tarfile.TarInfo("../outside.png"), picture(1))), "leads outside"),
    "absolute": (lambda: zipped(("/tmp/outside.png", picture(1))), "leads outside"),
    "absolute on another system": (lambda: zipped(("C:/outside.png", picture(1))), "leads outside"),
    "link": (lambda: tar_kind(tarfile.SYMTYPE), "is a link"),
    "hard link": (lambda: tar_kind(tarfile.LNKTYPE), "is a link"),
    "link in a zip": (lambda: zip_kind(0o120777), "is a link"),
    "device": (lambda: tar_kind(tarfile.CHRTYPE), "is a device"),
    "pipe": (lambda: tar_kind(tarfile.FIFOTYPE), "is a device"),
    "bomb by ratio": (lambda: zipped(("Cat/b.png", bytes(64 << 20)), method=zipfile.ZIP_DEFLATED), "more than"),
    "bomb by ratio in a tar": (
        lambda: tarred((tarfile.TarInfo("Cat/b.png"), bytes(64 << 20)), mode="w:gz"),
        "more than",
    ),
    "bomb that lies about it": (lying_size, "damaged"),
    "bomb by count": (lambda: zipped(*((f"Cat/{i}.png", b"") for i in range(60))), "more than 50 files"),
    "a name twice": (twice, "twice"),
    "wrong checksum": (wrong_crc, "damaged"),
    "cut off": (lambda: zipped(("Cat/bad.png", picture(3)))[:-40], "refused|damaged"),
    "cut off tar": (lambda: tarred((tarfile.TarInfo("Cat/bad.png"), bytes(5000)), mode="w:gz")[:-60], "damaged"),
    "encrypted": (encrypted, "encrypted"),
    "no archive": (lambda: b"hello" * 100, "neither a zip nor a tar"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_malice_is_refused_whole(kind: str, tmp_path: Path):
    make, words = HOSTILE[kind]
    home = tmp_path / "a" / "b"
    home.mkdir(parents=True)
    (home / "set.zip").write_bytes(make())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words):
        fetch(Dataset(source="archive", path=str(home / "set.zip"), max_files=50), home / "raw", home / "scratch")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path != home / "scratch"] == []
    assert not Path("/tmp/outside.png").exists()


@pytest.mark.parametrize("make", [zipped, tarred, lambda: tarred(mode="w:gz"), lambda: tarred(mode="w:xz")])
def test_an_honest_archive_comes(make: Callable[[], bytes], tmp_path: Path):
    (tmp_path / "set.any").write_bytes(make())
    receipt = fetch(Dataset(source="archive", path=str(tmp_path / "set.any")), tmp_path / "raw", tmp_path / "scratch")
    assert receipt["classes"] == {"Cat": 1}
    assert (tmp_path / "raw" / "Cat" / "good.png").read_bytes() == picture()
    assert receipt["name"] == "set.any"
