"""Damaged and hostile archives are refused, and nothing of them is kept."""

import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import UserError
from tests.images.conftest import fetched

IMAGES = {f"{name}/{i}.png": random.Random(f"{name}{i}").randbytes(600) for name in ("Cat", "Dog") for i in range(3)}
BIG = bytes(64 << 20)


def zipped(name: str = "Dog/", content: bytes = b"", kind: int = 0, method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of the images, and of another file with the given type in its Unix mode."""
    file, extra = io.BytesIO(), zipfile.ZipInfo(name)
    extra.external_attr, extra.compress_type = kind << 16, method
    with zipfile.ZipFile(file, "w", method) as archive:
        for path, image in [*IMAGES.items(), (extra, content)]:
            archive.writestr(path, image)
    return file.getvalue()


def tarred(
    name: str = "Dog", content: bytes = b"", kind: bytes = tarfile.DIRTYPE, mode: str = "w", **pax: str
) -> bytes:
    """Return a tar of the images, and of another file with the given type and extended header."""
    file, extra = io.BytesIO(), tarfile.TarInfo(name)
    extra.type, extra.linkname, extra.pax_headers = kind, "/etc/passwd", pax
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for info, image in [*((tarfile.TarInfo(path), image) for path, image in IMAGES.items()), (extra, content)]:
            info.size = len(image)
            archive.addfile(info, io.BytesIO(image))
    return file.getvalue()


def patched(content: bytes, find: bytes, offset: int, new: bytes) -> bytes:
    """Return `content` with `new` at an offset from the last occurrence of `find`."""
    at = content.rindex(find) + offset
    return content[:at] + new + content[at + len(new) :]


def unpacked(content: bytes, folder: Path, max_files: int = 50) -> dict[str, bytes]:
    folder.mkdir(parents=True)
    (folder / "set.any").write_bytes(content)
    return fetched(folder, source="archive", path=str(folder / "set.any"), max_files=max_files)[1]


CHAIN = tarfile.TarInfo.create_pax_global_header({"comment": "x"}) * 1000
REGULAR, DEFLATED = {"kind": tarfile.REGTYPE}, {"method": zipfile.ZIP_DEFLATED}
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "path outside": (lambda: zipped("Cat/../../../outside.png"), "refused.*leads outside"),
    "path outside with backslashes": (lambda: zipped("Cat\\..\\..\\outside.png"), "refused.*leads outside"),
    "path outside in a tar": (lambda: tarred("../outside.png", **REGULAR), "refused.*leads outside"),
    "absolute path": (lambda: zipped("/tmp/outside.png"), "refused.*leads outside"),
    "absolute path on Windows": (lambda: zipped("C:/outside.png"), "refused.*leads outside"),
    "link": (lambda: tarred(kind=tarfile.SYMTYPE), "refused.*is a link"),
    "hard link": (lambda: tarred(kind=tarfile.LNKTYPE), "refused.*is a link"),
    "link in a zip": (lambda: zipped("Cat/link", b"/etc/passwd", stat.S_IFLNK), "refused.*is a link"),
    "device": (lambda: tarred(kind=tarfile.CHRTYPE), "refused.*or a device"),
    "pipe": (lambda: tarred(kind=tarfile.FIFOTYPE), "refused.*or a device"),
    "ratio": (lambda: zipped("Cat/b.png", BIG, **DEFLATED), "refused.*more than 0.031 GiB"),
    "ratio of a tar": (lambda: tarred("Cat/b.png", BIG, mode="w:gz", **REGULAR), "refused.*more than 0.031 GiB"),
    "ratio of a header": (lambda: tarred("Cat/b.png", BIG, tarfile.XHDTYPE, "w:gz"), "damaged .headers of more than"),
    "wrong size": (lambda: patched(zipped("Cat/b.png", BIG, **DEFLATED), b"PK\1\2", 24, b"\x0a\0\0\0"), "damaged"),
    "same name": (lambda: tarred("Cat/1.png", **REGULAR), "refused.*'Cat/1.png' twice"),
    "encrypted": (lambda: patched(zipped("Cat/b.png"), b"PK\1\2", 8, b"\1"), "refused.*is encrypted"),
    "wrong checksum": (lambda: patched(zipped(), IMAGES["Cat/1.png"], 5, b"?"), "damaged .Bad CRC"),
    "file as a folder": (lambda: patched(zipped("Cat/b.png", b"x"), b"b.png", 4, b"/"), "damaged"),
    "name that is no Unicode": (lambda: zipped("Cat/\u03a9.png").replace(b"\xce\xa9", b"\xff\xff"), "damaged"),
    "cut zip": (lambda: zipped()[:-40], "damaged"),
    "cut zip that ends with a zip": (lambda: zipped("Cat/b.zip", zipped())[:-300], "damaged"),
    "cut tgz": (lambda: tarred(mode="w:gz")[:-4], "damaged"),
    "wrong checksum of a tgz": (lambda: tarred(mode="w:gz")[:-8] + bytes(8), "damaged .CRC"),
    "bad second header": (lambda: patched(tarred(), b"Cat/1.png", 0, b"D"), "damaged"),
    "zeroed second header": (lambda: patched(tarred(), b"Cat/1.png", 0, bytes(512)), "damaged"),
    "cut between files": (lambda: tarred()[: tarred().index(b"Dog/0.png")], "damaged"),
    "long end": (lambda: tarred() + bytes(2 << 20), "damaged"),
    "wrong header value": (lambda: tarred(**REGULAR, **{"GNU.sparse.map": "x"}), "damaged"),
    "chain of headers": (lambda: CHAIN + tarred(), "damaged .headers of more than"),
    "text": (lambda: b"hello" * 100, "damaged .*or is no zip or tar file"),
    "empty": (lambda: b"", "damaged .*or is no zip or tar file"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_archive_is_refused(kind: str, tmp_path: Path):
    make, message = REFUSED[kind]
    with pytest.raises(UserError, match=f"^set.any is {message}"):
        unpacked(make(), tmp_path / "a" / "b")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "scratch", "set.any"]
    assert not Path("/tmp/outside.png").exists()


def test_number_of_files_is_limited(tmp_path: Path):
    with pytest.raises(UserError, match=r"more than .* GiB or 5 files"):
        unpacked(zipped(), tmp_path / "set", max_files=5)


INTACT = {"zip": zipped(), "deflated": zipped(**DEFLATED), "tar": tarred()}
INTACT |= {mode: tarred(mode=f"w:{mode}", comment="Ω" * 80) for mode in ("gz", "xz", "bz2")}


@pytest.mark.parametrize("kind", INTACT)
def test_damage_is_never_silent(kind: str, tmp_path: Path):
    """A tar file has no checksum of its contents, so that only names and sizes can be compared."""
    assert unpacked(INTACT[kind], tmp_path / "intact") == IMAGES
    refused = 0
    for seed in range(120):
        rng, content = random.Random(seed), bytearray(INTACT[kind])
        at, count = rng.randrange(len(content)), rng.choice([1, 8, 512])
        if seed % 3 == 0:
            del content[at:]
        else:  # random bytes, or a block of zeros
            at -= at % count
            content[at : at + count] = bytes(count) if count == 512 else rng.randbytes(count)
        try:
            files = unpacked(bytes(content), tmp_path / str(seed))
        except UserError:
            refused += 1
        else:
            assert {name: len(image) for name, image in files.items()} == dict.fromkeys(IMAGES, 600), seed
            assert kind == "tar" or files == IMAGES, seed
    assert refused > 30
