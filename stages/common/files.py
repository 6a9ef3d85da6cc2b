"""Write files and folders atomically, and fingerprint values and files."""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

TEMPORARY = Path(".scratch/tmp")
CHECKSUMS = "SHA256SUMS"


@contextlib.contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder from which one rename writes `path`: in TEMPORARY, so that a kill leaves nothing beside it.

    If another file system is mounted at `path.parent`, the folder is beside `path`, and the next call replaces it.
    """
    for folder in (TEMPORARY, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=TEMPORARY))
    try:
        (path.parent / folder.name).rename(folder / "missing")  # Linux compares the mounts before it looks for the file
    except OSError as error:
        if error.errno == errno.EXDEV:
            folder.rmdir()
            folder = path.with_name(f".{path.name}.tmp")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`, or leave `path` as it was (temporary file, fsync, rename)."""
    with _temporary_folder(path) as folder:
        try:
            with (folder / path.name).open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            (folder / path.name).replace(path)
        except OSError as error:
            # ENOSPC comes without a file name.
            error.filename = error.filename or str(path)
            raise


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON; equal values give equal bytes."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `path` if the block succeeds and is removed if it fails.

    The old folder is renamed before it is deleted, so that at no time a half-deleted folder stands at `path`.
    """
    with _temporary_folder(path) as folder:
        new, old = folder / "new", folder / "old"
        new.mkdir()
        yield new
        if path.exists():
            path.replace(old)
        try:
            new.replace(path)
        except BaseException:  # a signal may arrive between the two calls
            if old.exists():
                old.replace(path)
            raise


def png_bytes(image: "Image.Image", **text: str) -> bytes:
    """Encode an image as PNG, with a chunk for every keyword of `text` and without other metadata."""
    from PIL.PngImagePlugin import PngInfo

    file, info = io.BytesIO(), PngInfo()
    for keyword, value in text.items():
        info.add_text(keyword, value)
    image.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS in a folder: the hash and name of every file, as `sha256sum --check` reads them."""
    write_atomic(folder / CHECKSUMS, "".join(f"{_checksum(file, folder)}\n" for file in _files(folder)))


def unlisted_files(folder: Path) -> list[Path]:
    """Return the files and links of a folder that its SHA256SUMS does not list with their content.

    Hidden files, which a file manager may leave, do not count.
    """
    sums = folder / CHECKSUMS
    listed = set(sums.read_text(encoding="utf-8").splitlines()) if sums.is_file() else set()
    paths = sorted(path for path in folder.rglob("[!.]*") if path.is_symlink() or not path.is_dir())
    return [path for path in paths if path != sums and _checksum(path, folder) not in listed]


def _checksum(path: Path, folder: Path) -> str:
    content = sha256(path) if path.is_file() and not path.is_symlink() else ""
    return f"{content}  {path.relative_to(folder)}"


def fingerprint(*values: object) -> str:
    """Return 16 hex digits that change when any of the values or files changes.

    A `Path` counts by its bytes (a folder by the names and bytes of all its files, symbolic links followed); any other
    value counts by its JSON.
    """
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, Path):
            for file in _files(value) if value.is_dir() else [value]:
                digest.update(f"{file.relative_to(value)}\0{sha256(file)}\0".encode())
        else:
            digest.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\0")
    return digest.hexdigest()[:16]


def _files(folder: Path) -> list[Path]:
    return sorted(Path(root, name) for root, _, names in os.walk(folder, followlinks=True) for name in names)
