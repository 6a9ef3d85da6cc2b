"""The files of this repository that a stage executes when it is imported."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("stages", "starter")


def closure(stage: Path) -> set[Path]:
    """Return a stage's file and every file of ours that it imports, at module level or within a function.

    A package's `__init__.py` counts if it holds more than a docstring.
    """
    found: set[Path] = set()
    waiting = [stage]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for module in imports(file):
            waiting += _files(module)
    return {file for file in found if is_code(file)}


def is_code(file: Path) -> bool:
    """Return whether a module holds anything but a docstring."""
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def imports(file: Path) -> set[str]:
    """Return the dotted names of ours that a module may import (`from a import b` may name a module or a function)."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: use absolute imports"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in PACKAGES}


def _files(module: str) -> list[Path]:
    """Return the files that importing `module` executes: the `__init__.py` of its packages and the module itself."""
    parts = module.split(".")
    files = [Path(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)]
    files.append(Path(*parts).with_suffix(".py"))
    return [file for file in files if (ROOT / file).is_file()]
