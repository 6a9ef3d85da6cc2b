"""Arrange images in one folder per class, each content once, under names that are safe on every file system."""

import hashlib
import os
import shutil
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pathvalidate import sanitize_filename

from stages import UserError
from stages.common.hashing import sha256, unlisted_files

# Folders with these names do not say what an image shows.
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev", "holdout"}
WRAPPERS = {"data", "dataset", "datasets", "images", "image", "imgs", "img", "pictures", "photos", "raw"}
SYSTEM = {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", ".ds_store", ".git"}
IMAGES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".mpo"}
ADVICE = "Move your images out of data/, such as to images/<Class>, and set dataset to {source: folder, path: images}."


def check_paths(raw: Path, source: Path | None) -> None:
    """Raise UserError if the layout would replace files that download did not write, or the folder `source`."""
    if unlisted := unlisted_files(raw):
        names = ", ".join(map(str, unlisted[:5])) + f" and {len(unlisted) - 5} more" * (len(unlisted) > 5)
        raise UserError(f"download did not write {names}, and would delete them with {raw}; nothing was done. {ADVICE}")
    if source is not None:
        one, other = raw.resolve(), source.resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise UserError(f"dataset.path {other} overlaps {raw}, which download replaces. {ADVICE}")


def arrange(files: Iterable[tuple[PurePosixPath, Path]], raw: Path, name: str, move: bool) -> dict:
    """Lay out files, given as (path in the source, path), as `raw/<Class>/<file>`; return counts for the receipt.

    Equal content in one class is kept once. Different files never overwrite each other, whatever the file system. The
    caption `a.txt` beside an image `a.jpg` becomes `a.jpg.txt`, because `a.png` may stand there too.
    """
    classes, left_out, contents, taken = Counter(), Counter(), set(), set()
    size, captioned, digest = 0, 0, hashlib.sha256()
    files = list(files)
    texts = {name: path for name, path in files if name.suffix == ".txt" and stat.S_ISREG(path.lstat().st_mode)}
    images = {relative: relative.with_suffix(".txt") for relative, _ in files if relative.suffix.lower() in IMAGES}
    captions = {relative: texts[text] for relative, text in images.items() if text in texts}
    used = set(captions.values())
    for relative, path in (pair for pair in files if pair[1] not in used):
        class_name, reason, content = class_of(relative, name), _reason(path, relative), ""
        try:
            content = "" if reason else sha256(path)
        except OSError:
            reason = "cannot be read"
        if (class_name, content) in contents:
            reason = "equal content"
        if reason:
            left_out[reason] += 1
            continue
        target = PurePosixPath(class_name, safe(relative.name))
        while not taken.isdisjoint(names := (_key(target), _key(f"{target}.txt"))):
            target = target.with_stem(f"{target.stem}-{content[:8]}")
        contents.add((class_name, content))
        taken.update(names)
        classes[class_name] += 1
        size += path.stat().st_size
        digest.update(f"{target}\0{content}\0".encode())
        (raw / class_name).mkdir(parents=True, exist_ok=True)
        shutil.move(path, raw / target) if move else shutil.copyfile(path, raw / target)
        (raw / target).chmod(0o644)
        if caption := captions.get(relative):
            shutil.copyfile(caption, raw / f"{target}.txt")
            digest.update(caption.read_bytes())
            captioned += 1
    if not classes:
        raise UserError(f"{name} has no images; give a folder of images, or a folder of such folders, one per class.")
    counts = {"classes": dict(classes), "files": classes.total(), "bytes": size, "left_out": dict(left_out)}
    return counts | {"captions": captioned, "content_sha256": digest.hexdigest()}


def class_of(relative: PurePosixPath, name: str) -> str:
    """Return the innermost folder that is no split or wrapper (`Cat` for `dataset/Cat/train/a.jpg`), or else `name`."""
    folders = [part for part in relative.parts[:-1] if part.lower() not in SPLITS | WRAPPERS]
    return safe(folders[-1] if folders else name)


def walk(folder: Path, relative: str = "") -> Iterator[tuple[PurePosixPath, Path]]:
    """Walk a source: yield (path in `folder`, path) of all files, those of a folder first; follow no links."""
    paths = [(stat.S_ISDIR(path.lstat().st_mode), os.fsencode(path), path) for path in folder.iterdir()]
    for is_folder, _, path in sorted(paths):
        if is_folder:
            yield from walk(path, f"{relative}{path.name}/")
        else:
            yield PurePosixPath(relative, path.name), path


def _reason(path: Path, relative: PurePosixPath) -> str | None:
    """Return the reason to leave a file out of the layout, if there is one."""
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        return "link" if stat.S_ISLNK(mode) else "special file"
    if any(part.lower() in SYSTEM or part.startswith("._") for part in relative.parts):
        return "system file"
    is_stray = len(relative.parts) == 1 and relative.suffix.lower() not in IMAGES
    return "beside the class folders, no image" if is_stray else None


def safe(name: str) -> str:
    """Return a part of a path without what a file system, a shell or a terminal misreads: 1 to 120 bytes, printable."""
    name = "".join(c if c.isprintable() else "_" for c in unicodedata.normalize("NFC", name))
    name = (name.encode()[:90] + name.encode()[90:][-30:]).decode(errors="ignore").lstrip(" .-").rstrip(" .")
    options = {"platform": "universal", "fs_encoding": "utf-8", "reserved_name_handler": lambda _: "_"}
    return sanitize_filename(name, "_", **options) or "_"


def _key(name: object) -> str:
    """Return a key that is equal for names in the layout that some file system does not distinguish (case, accents)."""
    return unicodedata.normalize("NFKC", str(name)).casefold()
