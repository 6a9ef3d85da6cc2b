"""Code and docs use the terms of the field: words of an earlier private vocabulary are rejected."""

import ast
import io
import re
import subprocess
import tokenize
from pathlib import Path

from tests.closure import ROOT

# Nowhere, in no form: names of files, identifiers, docstrings, comments, messages, docs.
EVERYWHERE = (
    "learnt",
    "wishes",
    "hasten",
    "heard",
    "crew",
    "sift",
    "mend",
    "mends",
    "mended",
    "surroundings",
    "lettering",
    "by the hand of",
    "thinks for itself",
    "came out as no numbers",
    "a stranger that came",
    "what a user may wish",
)
# Nor are these names of modules, classes, functions, parameters or variables.
IDENTIFIERS = {
    "apart", "ask", "cells", "cell", "entry", "eyes", "flying", "ground", "joined", "known", "learn", "marks",
    "material", "meaning", "meanings", "narrow", "objective", "origin", "outcome", "painter", "picture", "pictures",
    "place", "places", "said", "say", "sketch", "slope", "slopes", "steep", "story", "teach", "told", "typical",
    "whole", "widen", "worth",
}  # fmt: skip
ALLOWED = {  # where a word is a term of the field
    "starter/world": {"eyes", "sketch"},  # a creature's eyes; a style
    "starter/captions.py": {"sketch"},
    "stages/images/quality": {"cells", "cell"},  # of a histogram of oriented gradients
    "tests/images": {"cells"},
    "tests/slow.py": {"marks"},  # a parameter of pytest.param
}
PATTERNS = ("*.md", "*.py", "*.html", "*.yaml", "Makefile")


def tracked(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [ROOT / name for name in names if (ROOT / name).is_file() and ROOT / name != Path(__file__)]


def test_banned_words_are_not_used():
    pattern = re.compile(rf"(?<![a-z])({'|'.join(EVERYWHERE)})(?![a-z])", re.IGNORECASE)
    found = {
        f"{path.relative_to(ROOT)}:{i}: {match.group()}"
        for path in tracked(*PATTERNS)
        for i, line in enumerate([path.name, *path.read_text(encoding="utf-8").splitlines()])
        for match in pattern.finditer(line)
    }
    assert not found


def test_names_are_the_terms_of_the_field():
    found = set()
    for path in tracked("*.py"):
        allowed = {word for prefix, words in ALLOWED.items() if path.is_relative_to(ROOT / prefix) for word in words}
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {getattr(node, key, None) for node in ast.walk(tree) for key in ("name", "arg", "id")}
        names = {name for name in names if isinstance(name, str)} | {path.stem}
        found |= {f"{path.relative_to(ROOT)}: {n}" for n in names if n.strip("_").lower() in IDENTIFIERS - allowed}
    assert not found


def test_docstrings_and_comments_have_no_arrows():
    found = set()
    for path in tracked("*.py"):
        source = path.read_text(encoding="utf-8")
        nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
        texts = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, nodes)]
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        texts += [token.string for token in tokens if token.type == tokenize.COMMENT]
        found |= {f"{path.relative_to(ROOT)}: {text}" for text in texts if "=>" in text or "->" in text}
    assert not found
