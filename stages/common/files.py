"""Files that are whole or not there: atomic writes, atomic folders, fingerprints."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_atomic(path: Path, content: bytes | str) -> None:
    """bytes or text => `path`, whole or not at all (temporary file beside it, fsync, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # A full disk does not say where it is full.
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """A value => `path` as JSON that is the same bytes for the same value."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256(path: Path) -> str:
    """A file => the SHA-256 of its bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*things: object) -> str:
    """Values and files => 16 hex digits that change when any of them does.

    A `Path` stands for its bytes (a folder for all its files, by name); anything else for its JSON.
    """
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, Path):
            files = sorted(p for p in thing.rglob("*") if p.is_file()) if thing.is_dir() else [thing]
            for file in files:
                digest.update(f"{file.relative_to(thing)}\0{sha256(file)}\0".encode())
        else:
            digest.update(json.dumps(thing, sort_keys=True, default=str).encode() + b"\0")
    return digest.hexdigest()[:16]
