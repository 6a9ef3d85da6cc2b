"""Write files and folders atomically, and fingerprint values and files."""

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

CHECKSUMS = "SHA256SUMS"


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`, or leave `path` as it was (temporary file beside it, fsync, rename).

    A killed process leaves the temporary file; the next call for `path` replaces it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # ENOSPC comes without a file name.
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON; equal values give equal bytes."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `path` if the block succeeds and is removed if it fails.

    The old folder is renamed before it is deleted, so that at no time a half-deleted folder stands at `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = (path.with_name(f".{path.name}.{kind}") for kind in ("tmp", "old"))
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        if path.exists():
            path.replace(old)
        try:
            new.replace(path)
        except BaseException:  # a signal may arrive between the two calls
            if old.exists():
                old.replace(path)
            raise
    finally:
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)


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
