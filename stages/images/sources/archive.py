"""Unpack a zip or tar file from an untrusted source, or refuse it."""

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from stages import UserError
from stages.common.stage import NOT_WRITABLE
from stages.images.sources.params import Dataset

SMALL_BYTES = 32 << 20  # max_ratio does not apply to an archive that unpacks to less
PIECE = 1 << 20
HEADERS = 1 << 18  # bytes of the headers of one file in a tar


def unpack(archive: Path, folder: Path, name: str, dataset: Dataset) -> list[tuple[PurePosixPath, Path]]:
    """Unpack to numbered files in `folder`, which the caller removes; return (path in the archive, file), sorted.

    Raises UserError for damage, encryption, anything but files in folders, and more than `dataset` allows.
    """
    max_bytes = min(dataset.max_gib * 2**30, max(archive.stat().st_size * dataset.max_ratio, SMALL_BYTES))
    files, total = {}, 0
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open("rb") as file:
            members = _zip_members if file.read(4) in (b"PK\3\4", b"PK\5\6") else _tar_members
        for path, size, open_member in tqdm(members(archive), "unpack", unit="file", disable=None):
            total += size
            if path in files:
                raise UserError(f"it holds {str(path)!r} twice")
            if total > max_bytes or len(files) == dataset.max_files:
                limit = f"{max_bytes / 2**30:.2g} GiB or {dataset.max_files} files"
                raise UserError(f"it unpacks to more than {limit} (dataset.max_gib, max_ratio, max_files)")
            files[path] = folder / str(len(files))
            with open_member() as source, files[path].open("wb") as target:
                shutil.copyfileobj(source, target, PIECE)
    except UserError as reason:
        raise UserError(f"{name} is refused: {reason}. Nothing of it is kept; get it from a trusted source.") from None
    except Exception as error:  # zipfile and tarfile raise errors of almost every class for damaged archives.
        if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
            raise
        cause = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise UserError(f"{name} is damaged ({cause}), or is no zip or tar file; get it again.") from None
    return sorted(files.items())


def _zip_members(archive: Path) -> Iterator[tuple[PurePosixPath, int, Callable]]:
    with zipfile.ZipFile(archive) as opened:
        if min((info.header_offset for info in opened.infolist()), default=0):
            # A cut archive whose last member is a zip file opens as that member.
            raise zipfile.BadZipFile("the index is that of a zip file inside")
        for info in opened.infolist():
            path = _path(info.orig_filename)
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{str(path)!r} is a link or a device")
            if info.flag_bits & 1:
                raise UserError(f"{str(path)!r} is encrypted")
            if info.file_size or not info.is_dir():
                yield path, info.file_size, partial(opened.open, info)


def _tar_members(archive: Path) -> Iterator[tuple[PurePosixPath, int, Callable]]:
    with archive.open("rb") as file:
        opener = {b"BZh": bz2.open, b"\x1f\x8b\x08": gzip.open, b"\xfd7z": lzma.open}.get(file.read(3), open)
    with opener(archive, "rb") as file, tarfile.open(fileobj=_Bounded(file), mode="r:") as opened:
        while info := opened.next():
            opened.members.clear()
            path = _path(info.name)
            if not (info.isreg() or info.isdir()):
                raise UserError(f"{str(path)!r} is a link or a device")
            opened.fileobj.left = HEADERS + info.size
            if info.isreg():
                yield path, info.size, partial(opened.extractfile, info)
        # tarfile ends without an error at a header that it cannot read. Reading on also checks the gzip checksum.
        file.seek(opened.offset)
        rest = file.read(PIECE)
        if rest.strip(b"\0") or not tarfile.BLOCKSIZE <= len(rest) < PIECE:
            raise tarfile.ReadError(f"neither a file nor the end at byte {opened.offset}")


class _Bounded:
    """A file of which at most `left` more bytes are read, because tarfile reads headers of any size into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self.left, self._file = HEADERS, file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"headers of more than {HEADERS} bytes before one file")
        return self._file.read(size)


def _path(name: str) -> PurePosixPath:
    """Return the name of a member as a path; refuse names that lead outside on any operating system."""
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ":" in parts[0] or ".." in parts or "\0" in name:
        raise UserError(f"{name!r} leads outside of the archive")
    return PurePosixPath(*parts)
