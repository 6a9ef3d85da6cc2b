"""The house keeps its own rules: dvc.yaml tells the truth, presets are valid, rooms import only what they may."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.common.params import SECTIONS, check, read
from tests.closure import ROOT, closure, executes

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
ENTRIES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
ROOMS = sorted(path.parent.name for path in (ROOT / "stages").glob("*/__init__.py"))
MAY_IMPORT = {
    "common": set(),
    "images": set(),
    "models": set(),
    "reporting": set(),
    "inversion": {"models"},
    "rendering": {"models"},
    "scoring": {"images"},
}


def code_deps(stage: str) -> set[Path]:
    """The Python files among a stage's deps; a folder stands for all that are in it."""
    files: set[Path] = set()
    for dep in (ROOT / d for d in STAGES[stage]["deps"]):
        files |= set(dep.rglob("*.py")) if dep.is_dir() else {dep} & set(dep.parent.glob("*.py"))
    return {file.relative_to(ROOT) for file in files if executes(file.relative_to(ROOT))}


def test_every_entry_is_a_stage_and_every_stage_an_entry():
    assert sorted(STAGES) == ENTRIES


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_says_what_it_does_and_runs_its_entry(stage: str):
    assert len(STAGES[stage]["desc"]) > 20
    assert STAGES[stage]["cmd"].endswith(f"-m stages.{stage}")


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_code_deps_are_the_import_closure(stage: str):
    assert code_deps(stage) == closure(Path("stages") / f"{stage}.py")


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_tracks_the_sections_that_it_reads_and_no_other(stage: str):
    """The names given to `load` in the entry are the tracked params, but for `runtime`, which no stage tracks."""
    read_by = set()
    for node in ast.walk(ast.parse((ROOT / "stages" / f"{stage}.py").read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load":
            read_by |= {argument.value for argument in node.args}
    tracked = set(STAGES[stage].get("params", []))
    assert tracked == read_by - {"runtime"}
    assert "runtime" not in tracked


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_the_data_that_an_entry_names_are_its_deps_and_outs(stage: str):
    """A path under data/ or report/ that an entry names, or a part of one, is what DVC knows of; and the other way."""
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = {text for text in strings if text.startswith(("data/", "report/")) and " " not in text}
    known = {path for path in STAGES[stage]["deps"] + STAGES[stage]["outs"] if path.startswith(("data/", "report/"))}
    assert all(any(Path(name).is_relative_to(path) for path in known) for name in named), named - known
    assert all(any(Path(name).is_relative_to(path) for name in named) for path in known), known - named


@pytest.mark.parametrize("stage", ["train", "render", "evaluate"])
def test_versions_that_decide_numbers_are_tracked(stage: str):
    assert "constraints.txt" in STAGES[stage]["deps"]


def test_no_out_is_persisted_and_all_are_in_data_or_report():
    for stage in STAGES.values():
        for out in stage.get("outs", []) + stage.get("metrics", []) + stage.get("plots", []):
            assert isinstance(out, str), f"{out}: plain outs only, so that the run-cache serves them"
            assert out.startswith(("data/", "report"))


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))], ids=lambda p: p.stem
)
def test_every_params_file_validates_and_names_every_section(path: Path):
    values = read(path)
    check(values, path)
    assert list(values) == list(SECTIONS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str):
    for file in (ROOT / "stages" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in (n for n in names if n and n.startswith("stages.")):
                assert name.split(".")[1] in MAY_IMPORT[room] | {room}, f"{file.relative_to(ROOT)} imports {name}"


def test_modules_and_functions_fit_in_their_rooms():
    for file in [*(ROOT / "stages").rglob("*.py"), *(ROOT / "starter").rglob("*.py")]:
        text = file.read_text()
        assert len(text.splitlines()) <= 250, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno <= 100, f"{file.name}: {node.name}"


def test_every_field_of_params_has_a_meaning():
    from stages.common.params import schema

    for name in SECTIONS:
        for field_name, field in schema(name).model_fields.items():
            assert field.description and len(field.description) > 10, f"{name}.{field_name}"
