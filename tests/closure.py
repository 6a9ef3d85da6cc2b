"""Which files of this repository an entry executes when it is imported: what DVC must know of."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("stages", "starter")


def closure(entry: Path) -> set[Path]:
    """`stages/train.py` => itself and every file of ours that it imports, wherever the import stands in the file.

    A package's `__init__.py` counts when it holds more than a docstring.
    """
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for module in _imported(file):
            waiting += _files(module)
    return {file for file in found if executes(file)}


def executes(file: Path) -> bool:
    """A module => whether anything but a docstring is in it."""
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def _imported(file: Path) -> set[str]:
    """A module => the dotted names of ours that it may import (a `from` import may name a module or what is in it)."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write imports in full"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in PACKAGES}


def _files(module: str) -> list[Path]:
    """A dotted name => the files that importing it runs: its packages' `__init__.py` and, if it is one, the module."""
    parts = module.split(".")
    files = [Path(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)]
    files.append(Path(*parts).with_suffix(".py"))
    return [file for file in files if (ROOT / file).is_file()]
