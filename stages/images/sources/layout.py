"""Any nesting of folders => `<Class>/<file>`, each content once."""

import hashlib
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from stages import UserError
from stages.images.sources.names import distinct, key, safe

# Folders that say which part of a set a picture is in, or nothing at all, and never what it shows.
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev", "holdout"}
WRAPPERS = {"data", "dataset", "datasets", "images", "image", "imgs", "img", "pictures", "photos", "raw"}
HERE = PurePosixPath()
JUNK = {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", ".ds_store", ".git"}
PICTURES = {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".apng",
    ".gif",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".mpo",
}


def arrange(files: Iterable[tuple[PurePosixPath, Path]], raw: Path, name: str, move: bool) -> dict:
    """(name in the source, file)s => `raw/<Class>/<file>` => {"classes": {class: count}, "left_out": {reason: count}}.

    A file's class is its nearest folder that is neither a split (train, test, ...) nor a wrapper (images, data, ...);
    without any it is `name`. Equal content in one class is kept once; different files of one name are told apart by a
    piece of their hash. Links and special files are never followed. The same files in the same order give the same
    layout. `move` takes the files away instead of copying them.

    Raises UserError where there is no file at all.
    """
    classes: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    contents: set[tuple[str, str]] = set()
    taken: set[tuple[str, str]] = set()
    total, digest = 0, hashlib.sha256()
    for relative, path in files:
        reason = _unwanted(path, relative)
        if reason:
            left_out[reason] += 1
            continue
        class_name = class_of(relative, name)
        try:
            sha256 = _sha256(path)
        except OSError:
            left_out["cannot be read"] += 1
            continue
        if (class_name, sha256) in contents:
            left_out["equal content"] += 1
            continue
        contents.add((class_name, sha256))
        file_name = safe(relative.name)
        if (class_name, key(file_name)) in taken:
            file_name = distinct(file_name, sha256)
        taken.add((class_name, key(file_name)))
        target = raw / class_name / file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        total += path.stat().st_size
        shutil.move(path, target) if move else shutil.copyfile(path, target)
        target.chmod(0o644)
        digest.update(f"{class_name}/{file_name}\0{sha256}\0".encode())
        classes[class_name] += 1
    if not classes:
        raise UserError(f"{name} has no picture in it; give class folders with pictures, or one folder of pictures.")
    return {
        "classes": dict(sorted(classes.items())),
        "files": sum(classes.values()),
        "bytes": total,
        "left_out": dict(sorted(left_out.items())),
        "content_sha256": digest.hexdigest(),
    }


def class_of(relative: PurePosixPath, name: str) -> str:
    """`dataset/dataset/Charizard/a.jpg` => `Charizard`; `train/a.jpg` => `name`."""
    for part in reversed(relative.parts[:-1]):
        if part.lower() not in SPLITS | WRAPPERS:
            return safe(part)
    return safe(name)


def walk(tree: Path, inside: PurePosixPath = HERE) -> Iterator[tuple[PurePosixPath, Path]]:
    """A folder => (name in it, path) of all in it but folders, sorted, a folder's own first, links not followed."""
    folders = []
    for entry in sorted(os.scandir(tree), key=lambda entry: os.fsencode(entry.name)):
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry)
        else:
            yield inside / entry.name, Path(entry.path)
    for folder in folders:
        yield from walk(Path(folder.path), inside / folder.name)


def _unwanted(path: Path, relative: PurePosixPath) -> str | None:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "link"
    if not stat.S_ISREG(mode):
        return "special file"
    if any(part.lower() in JUNK or part.startswith("._") for part in relative.parts):
        return "system file"
    if len(relative.parts) == 1 and relative.suffix.lower() not in PICTURES:
        return "beside the class folders, no picture"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
