"""Write files and folders atomically."""

import contextlib
import errno
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
    """Write a folder atomically: yield an empty one, which replaces `path` if the block succeeds.

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
    """Return the bytes of a PNG file, with a chunk for every keyword of `text` and no other metadata."""
    from PIL.PngImagePlugin import PngInfo

    file, info = io.BytesIO(), PngInfo()
    for keyword, value in text.items():
        info.add_text(keyword, value)
    image.save(file, "PNG", pnginfo=info)
    return file.getvalue()
