"""A zip or tar that nobody vouches for => its files, or one sentence why not."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from stages import UserError

SMALL_MIB = 32  # an archive that unpacks to less is no bomb, whatever the ratio
PIECE = 1 << 20
# What the readers raise for damage; the last is zipfile's word for a way of packing that it does not know.
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to: bytes, a multiple of its own size, files."""

    bytes: int
    ratio: float
    files: int


class _RefusedError(Exception):
    pass


def unpack(archive: Path, tree: Path, limits: Limits, name: str) -> list[tuple[PurePosixPath, Path]]:
    """`archive` => its files, numbered, in `tree` => (name in the archive, file), sorted by name.

    Names never touch the disk: whatever an archive calls a file, it becomes `tree/<number>`. Refused as a whole: a path
    that leads outside, links, devices, a name given twice, an encrypted file, a wrong checksum, a broken end, and more
    than `limits` (by what the archive says, and again by what comes out). Raises UserError; `tree` is then gone.
    """
    try:
        tree.mkdir(parents=True)
        return _unpack(archive, tree, limits)
    except _RefusedError as reason:
        shutil.rmtree(tree, ignore_errors=True)
        raise UserError(
            f"{name} is refused: {reason}. Nothing of it was kept; get it from a source you trust."
        ) from None
    except BROKEN as error:
        shutil.rmtree(tree, ignore_errors=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the archive's
        raise UserError(
            f"{name} is damaged ({' '.join(str(error).split()) or 'ends too early'}); get it again."
        ) from None


def _unpack(archive: Path, tree: Path, limits: Limits) -> list[tuple[PurePosixPath, Path]]:
    size = archive.stat().st_size
    most = min(limits.bytes, max(int(size * limits.ratio), SMALL_MIB << 20))
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            return _write(_zip_entries(opened, limits.files), tree, most)
    if not _is_tar(archive):
        raise _RefusedError("it is neither a zip nor a tar file, or it is cut off")
    with tarfile.open(archive) as opened:
        return _write(_tar_entries(opened, limits.files), tree, most)


def _write(entries: Iterator, tree: Path, most: int) -> list[tuple[PurePosixPath, Path]]:
    """(name, size said, opener)s => numbered files."""
    names: set[PurePosixPath] = set()
    files: list[tuple[PurePosixPath, Path]] = []
    said = came = 0
    with tqdm(desc="unpack", unit="file", disable=None) as bar:
        for text, size, opener in entries:
            name = _inside(text)
            if name in names:
                raise _RefusedError(f"it holds {str(name)!r} twice")
            names.add(name)
            said += size
            if said > most:
                raise _RefusedError(f"it would unpack to more than {most / 2**30:.2g} GiB (dataset.max_gib, max_ratio)")
            target = tree / str(len(files))
            with opener() as source, target.open("xb") as file:
                while piece := source.read(PIECE):
                    came += len(piece)
                    if came > most:
                        raise _RefusedError(f"it unpacks to more than {most / 2**30:.2g} GiB, against what it says")
                    file.write(piece)
            if target.stat().st_size != size:
                raise EOFError(f"{str(name)!r} is shorter than it says")
            files.append((name, target))
            bar.update()
    return sorted(files)


def _zip_entries(opened: zipfile.ZipFile, most_files: int) -> Iterator[tuple[str, int, IO]]:
    entries = opened.infolist()
    if len(entries) > most_files:
        raise _RefusedError(f"it holds more than {most_files} files (dataset.max_files)")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _RefusedError(f"{entry.filename!r} is a {'link' if kind == stat.S_IFLNK else 'device'}")
        if entry.flag_bits & 0x1:
            raise _RefusedError(f"{entry.filename!r} is encrypted")
        if entry.is_dir():
            _inside(entry.filename)
            continue
        yield entry.orig_filename, entry.file_size, lambda entry=entry: opened.open(entry)


def _tar_entries(opened: tarfile.TarFile, most_files: int) -> Iterator[tuple[str, int, IO]]:
    for number, entry in enumerate(opened, 1):
        if number > most_files:
            raise _RefusedError(f"it holds more than {most_files} files (dataset.max_files)")
        if entry.issym() or entry.islnk():
            raise _RefusedError(f"{entry.name!r} is a link")
        if entry.isdir():
            _inside(entry.name)
            continue
        if not entry.isreg():
            raise _RefusedError(f"{entry.name!r} is a device")
        yield entry.name, entry.size, lambda entry=entry: opened.extractfile(entry)


def _inside(text: str) -> PurePosixPath:
    """A name in an archive => the same as a path. Refuses what could mean a place outside, on any system."""
    parts = text.replace("\\", "/").split("/")
    if text.startswith(("/", "\\")) or ":" in parts[0] or ".." in parts or "\0" in text:
        raise _RefusedError(f"{text!r} leads outside of the archive")
    return PurePosixPath(*[part for part in parts if part not in ("", ".")])


def _is_tar(archive: Path) -> bool:
    with archive.open("rb") as file:
        start = file.read(6)
    return start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")) or tarfile.is_tarfile(archive)
