"""A person's `include` and `exclude` => rows of the manifest."""

import difflib
import fnmatch
import re

from stages import UserError

_HASH = re.compile(r"[0-9a-f]{6,64}")


def match_overrides(patterns: list[str], files: list[str], hashes: list[str], what: str) -> dict[int, str]:
    """Patterns => the rows that they name, each with the pattern that did, in the order of the patterns.

    A pattern is a file's name (`a.jpg`, `Class/a.jpg`), the first 6 or more digits of its hash, or a glob (`a*.png`). A
    name comes before a hash, and a hash before a glob. Raises UserError, with the nearest name, for a pattern that
    names nothing.
    """
    found: dict[int, str] = {}
    for pattern in patterns:
        rows = _one(pattern, files, hashes)
        if not rows:
            near = difflib.get_close_matches(pattern, [_name(file) for file in files], n=1, cutoff=0.4)
            hint = f"; the nearest name is {near[0]}" if near else ""
            raise UserError(
                f"curate.{what}: {pattern!r} is no picture of the class{hint}; give a file name, a hash's beginning or "
                "a glob."
            )
        for row in rows:
            found.setdefault(row, pattern)
    return found


def _one(pattern: str, files: list[str], hashes: list[str]) -> list[int]:
    rows = [i for i, file in enumerate(files) if pattern in (file, _name(file))]
    if not rows and _HASH.fullmatch(pattern.lower()):
        rows = [i for i, sha256 in enumerate(hashes) if sha256.startswith(pattern.lower())]
    if not rows:
        rows = [
            i for i, f in enumerate(files) if fnmatch.fnmatchcase(f, pattern) or fnmatch.fnmatchcase(_name(f), pattern)
        ]
    return rows


def _name(file: str) -> str:
    return file.partition("/")[2]
