"""Archives with junk in their headers: the checksums of tar headers are right, so that the fields are read."""

import gzip
import io
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.images.sources.archive import unpack
from stages.images.sources.params import Dataset
from tests.hostile.bounds import accepted
from tests.images.test_archive import IMAGES, patched, tarred, zipped

NAMES = [
    b"",
    b"\0",
    b".",
    b"/",
    b"a\0b",
    b"\xff\xfe",
    b"Cat/\xed\xa0\x80.png",
    b"a" * 100,
    b"\r\n\x1b[2J",
    "Ω".encode(),
]
NUMBERS = [b"", b"8", b"-1", b"7" * 11, b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\0" * 12, b"x" * 12]
# Offset and width of the fields of a tar header (POSIX ustar), and of the numbers of a zip's central directory.
TAR = [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (329, 8), (345, 155)]
ZIP = [(4, 2), (6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (38, 4), (42, 4)]
SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a"}
PAX = [{key: value} for key in ("path", "size", "mtime", "hdrcharset", "GNU.sparse.size", "GNU.sparse.map", "linkpath")
       for value in ("", "-1", "x", "1e400", "9" * 5000, "\udcff", "a\0b")]  # fmt: skip


def header(name: bytes = b"Cat/b.png", size: int = 0, **fields: bytes) -> bytes:
    """Return a tar header in which `name` and other fields (as o<offset>) are raw bytes, with its checksum."""
    info = bytearray(tarfile.TarInfo("Cat/b.png").tobuf(tarfile.GNU_FORMAT))
    values = {0: name, 124: b"%011o" % size} | {int(key[1:]): value for key, value in fields.items()}
    for offset, value in values.items():
        width = 100 if offset == 0 else dict(TAR)[offset]
        info[offset : offset + width] = value[:width].ljust(width, b"\0")
    info[148:156] = b" " * 8
    info[148:156] = b"%06o\0 " % sum(info)
    return bytes(info)


def many(kind: bytes, content: bytes, count: int) -> bytes:
    """Return a tgz that starts with `count` headers of a type, each followed by its content."""
    block = header(size=len(content), o156=kind) + content.ljust(-(-len(content) // 512) * 512, b"\0")
    return gzip.compress(block * count + tarred(), 1)


def pax_file(size: int) -> bytes:
    """Return a tar header of an empty file with a pax header of `size` bytes before it."""
    return header(size=size, o156=tarfile.XHDTYPE) + (b"%d a=" % size).ljust(size - 1, b"x") + b"\n" + header()


def junk_tar(seed: int) -> bytes:
    rng = random.Random(seed)
    offset, _ = rng.choice(TAR)
    block = header(**{f"o{offset}": rng.choice([*NUMBERS, rng.randbytes(12)])})
    return block + tarred() if seed % 2 else patched(tarred(), b"Dog/1.png", 0, block)


def junk_zip(seed: int) -> bytes:
    rng = random.Random(seed)
    offset, width = rng.choice(ZIP)
    content = zipped("Cat/b.png", b"x" * 99, method=zipfile.ZIP_DEFLATED)
    value = rng.choice([b"\xff" * 4, b"\0" * 4, struct.pack("<I", rng.randrange(1 << 20)), rng.randbytes(4)])
    return patched(content, rng.choice([b"PK\1\2", b"PK\1\2", b"PK\5\6"]), offset, value[:width])


def zip_name(name: bytes) -> bytes:
    return (
        zipped("N" * len(name) or "N").replace(b"N" * len(name), name)
        if name
        else patched(zipped("N"), b"PK\1\2", 28, b"\0\0")
    )


CASES: dict[str, Callable[[], bytes]] = {
    **{f"tar name {name!r}": lambda name=name: header(name) + tarred() for name in NAMES},
    **{f"zip name {name!r}": lambda name=name: zip_name(name) for name in NAMES},
    **{
        f"pax {list(pax.items())}"[:60]: lambda pax=pax: tarred("Cat/b.png", b"x", tarfile.REGTYPE, **pax)
        for pax in PAX
    },
    **{f"tar field {seed}": lambda seed=seed: junk_tar(seed) for seed in range(60)},
    **{f"zip field {seed}": lambda seed=seed: junk_zip(seed) for seed in range(60)},
    "long pax header": lambda: many(tarfile.XHDTYPE, bytes(32 << 20), 1),
    "long name": lambda: many(tarfile.GNUTYPE_LONGNAME, b"a" * (32 << 20), 1),
    "long link": lambda: many(tarfile.GNUTYPE_LONGLINK, b"a" * (32 << 20), 1),
    "chain of pax headers": lambda: many(tarfile.XGLTYPE, b"12 a=bcdefgh", 30_000),
    "chain of names": lambda: many(tarfile.GNUTYPE_LONGNAME, b"a", 30_000),
    "sparse map": lambda: header(o156=b"S", o345=b"1" * 137 + b"\1") + (b"1" * 504 + b"\1" * 8) * 100_000,
    "pax headers of many files": lambda: gzip.compress(pax_file(512_000) * 400 + tarred(), 1),
    "sparse list": lambda: tarred("Cat/b.png", b"9" * 9 + b"\n" + b"1\n" * (1 << 20), tarfile.REGTYPE, **SPARSE),
    "sparse list that is none": lambda: tarred("Cat/b.png", b"x\n" * 900, tarfile.REGTYPE, **SPARSE),
    "sparse list that is negative": lambda: tarred("Cat/b.png", b"-5\n" + b"1\n" * 900, tarfile.REGTYPE, **SPARSE),
    "directory that is no zip": lambda: zipped()[:-22] + b"PK\5\6" + b"\xff" * 18,
    "many zip files": lambda: b"PK\3\4" * 100_000,
    "zip in a gzip": lambda: gzip.compress(zipped()),
    "gzip in a gzip": lambda: gzip.compress(gzip.compress(tarred())),
    "zeros in a gzip": lambda: gzip.compress(bytes(64 << 20), 1),
    "ones in a gzip": lambda: gzip.compress(b"1" * (64 << 20), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_archive_is_refused_or_complete(name: str, tmp_path: Path):
    (tmp_path / "set").write_bytes(CASES[name]())
    files = []
    if accepted(lambda: files.extend(unpack(tmp_path / "set", tmp_path / "unpacked", "set", Dataset()))):
        contents = {path.read_bytes() for _, path in files}
        assert set(IMAGES.values()) <= contents, f"only {len(contents)} files"


def test_five_thousand_empty_files(tmp_path: Path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for i in range(5_000):
            archive.addfile(tarfile.TarInfo(f"Cat/{i}.png"))
    (tmp_path / "set").write_bytes(content.getvalue())
    assert accepted(lambda: unpack(tmp_path / "set", tmp_path / "unpacked", "set", Dataset()))
