"""Hash files, and fingerprint values, files and folders."""

import hashlib
import json
import os
from pathlib import Path

from stages.common.files import write_atomic

CHECKSUMS = "SHA256SUMS"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS in a folder: the hash and name of every file, as `sha256sum --check` reads them."""
    write_atomic(folder / CHECKSUMS, "".join(f"{_checksum(file, folder)}\n" for file in _files(folder)))


def unlisted_files(folder: Path) -> list[Path]:
    """Hash a folder's files and links, and return those that its SHA256SUMS does not list with that hash.

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
