"""Match the patterns of `curate.include` and `curate.exclude` with rows of the manifest."""

import difflib
import re
from fnmatch import fnmatchcase

from stages import UserError


def match_overrides(patterns: list[str], files: list[str], hashes: list[str], key: str) -> dict[int, str]:
    """Return the rows that the patterns match, each with its pattern, in the order of the patterns.

    A pattern is a file name (`a.jpg`, `Class/a.jpg`), the first 6 or more digits of a hash, or a glob (`a*.png`), in
    this order. Raises UserError for a pattern that matches nothing.
    """
    matches: dict[int, str] = {}
    for pattern in patterns:
        rows = _match(pattern, files, hashes)
        if not rows:
            similar = difflib.get_close_matches(pattern, map(_name, files), n=1, cutoff=0.4)
            hint = f"; the most similar name is {similar[0]}" if similar else ""
            advice = "give a file name, the start of a hash, or a glob"
            raise UserError(f"curate.{key}: {pattern!r} matches no image of the class{hint}; {advice}.")
        for row in rows:
            matches.setdefault(row, pattern)
    return matches


def _match(pattern: str, files: list[str], hashes: list[str]) -> list[int]:
    rows = [i for i, file in enumerate(files) if pattern in (file, _name(file))]
    if not rows and re.fullmatch("[0-9a-f]{6,64}", pattern.lower()):
        rows = [i for i, sha256 in enumerate(hashes) if sha256.startswith(pattern.lower())]
    return rows or [i for i, f in enumerate(files) if fnmatchcase(f, pattern) or fnmatchcase(_name(f), pattern)]


def _name(file: str) -> str:
    return file.partition("/")[2]
