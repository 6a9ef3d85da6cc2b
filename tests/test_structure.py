"""The repository keeps its own rules: dvc.yaml matches the imports, params files are valid, dependencies point down."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.common.params import SECTIONS, read, schema, validate
from tests import project
from tests.closure import ROOT, closure, imports, is_code

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
STAGE_FILES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
ROOMS = sorted(path.parent.name for path in (ROOT / "stages").glob("*/__init__.py"))
# Modules that decide no byte of an out: they report, lock, validate, write files or track. No stage depends on them.
PLUMBING = {
    Path("stages/__init__.py"),
    Path("stages/common/deadline.py"),
    Path("stages/common/distributed.py"),
    Path("stages/common/files.py"),
    Path("stages/common/hashing.py"),
    Path("stages/common/locks.py"),
    Path("stages/common/read_outs.py"),
    Path("stages/common/params.py"),
    Path("stages/common/pretrained.py"),
    Path("stages/common/progress.py"),
    Path("stages/common/runtime.py"),
    Path("stages/common/signals.py"),
    Path("stages/common/stage.py"),
    Path("stages/common/trackers.py"),
    Path("stages/common/watch.py"),
}
# Fingerprints for the cache of finished renders; the bytes of a render do not depend on them.
CACHE_KEYS = {"render": {Path("stages/common/provenance.py")}}
MAY_IMPORT = {
    "common": set(),
    "images": {"common"},
    "models": {"common"},
    "inversion": {"common", "models"},
    "rendering": {"common", "models"},
    "scoring": {"common", "models"},
    "reporting": {"common"},
    "comparison": {"common", "reporting"},
}


def code_deps(stage: str) -> set[Path]:
    """Return the Python files among a stage's deps; a folder stands for all files in it."""
    files: set[Path] = set()
    for dep in (ROOT / d for d in STAGES[stage]["deps"]):
        files |= set(dep.rglob("*.py")) if dep.is_dir() else {dep} & set(dep.parent.glob("*.py"))
    return {file.relative_to(ROOT) for file in files if is_code(file.relative_to(ROOT))}


def loaded_sections(stage: str) -> set[str]:
    """Return the sections that a stage's file passes to `load`."""
    sections = set()
    for node in ast.walk(ast.parse((ROOT / "stages" / f"{stage}.py").read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load":
            sections |= {argument.value for argument in node.args}
    return sections


def out_paths(stage: str) -> list[str]:
    return [
        next(iter(out)) if isinstance(out, dict) else out
        for key in ("outs", "metrics")
        for out in STAGES[stage].get(key, [])
    ]


def test_every_file_in_stages_is_a_stage_and_the_other_way_round():
    assert sorted(STAGES) == STAGE_FILES


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_has_a_description_and_runs_its_own_file(stage: str):
    assert len(STAGES[stage]["desc"]) > 20
    assert STAGES[stage]["cmd"].endswith(f"-m stages.{stage}")


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_imported_module_is_a_dep_or_plumbing(stage: str):
    imported = closure(Path("stages") / f"{stage}.py")
    assert imported - code_deps(stage) - PLUMBING - CACHE_KEYS.get(stage, set()) == set()


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_dep_with_code_is_imported(stage: str):
    imported = closure(Path("stages") / f"{stage}.py")
    for dep in (Path(d) for d in STAGES[stage]["deps"]):
        if dep.suffix == ".py" or (ROOT / dep / "__init__.py").is_file():
            assert any(file.is_relative_to(dep) for file in imported), dep


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"report"}))
def test_the_schemas_that_a_stage_loads_by_name_are_deps(stage: str):
    """`params.load` imports schemas by name, which the import closure cannot see. The report only prints the params."""
    for section in loaded_sections(stage) - {"runtime"}:
        assert Path(*schema(section).__module__.split(".")).with_suffix(".py") in code_deps(stage), section


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_tracks_the_sections_that_it_loads_and_never_runtime(stage: str):
    assert set(STAGES[stage].get("params", [])) == loaded_sections(stage) - {"runtime"}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_the_data_paths_in_a_stage_are_its_deps_and_outs(stage: str):
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = {text for text in strings if text.startswith(("data/", "report/")) and " " not in text}
    declared = {path for path in STAGES[stage]["deps"] + out_paths(stage) if path.startswith(("data/", "report/"))}
    assert all(any(Path(name).is_relative_to(path) for path in declared) for name in named), named - declared
    assert all(any(Path(name).is_relative_to(path) for name in named) for path in declared), declared - named


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_depends_on_the_library_versions(stage: str):
    assert "versions.txt" in STAGES[stage]["deps"]


def test_versions_are_exact_and_named_once():
    names = [
        line.partition("==")[0].lower()
        for file in ("versions.txt", "constraints.txt")
        for line in (ROOT / file).read_text().splitlines()
        if line and not line.startswith(("#", "-c"))
    ]
    assert len(names) == len(set(names)) > 100
    assert (ROOT / "constraints.txt").read_text().splitlines()[1] == "-c versions.txt"


def test_outs_are_in_data_or_report_and_only_metrics_are_in_git():
    for stage, spec in STAGES.items():
        assert all(path.startswith(("data/", "report/")) for path in out_paths(stage))
        assert all(isinstance(out, str) or out[next(iter(out))] == {"persist": True} for out in spec.get("outs", []))
        assert all(next(iter(metric.values())) == {"cache": False} for metric in spec.get("metrics", []))


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))], ids=lambda p: p.stem
)
def test_every_params_file_is_valid_and_has_every_section(path: Path):
    values = read(path)
    validate(values, path)
    assert list(values) == list(SECTIONS)


@pytest.mark.parametrize("room", ROOMS)
def test_dependencies_point_down(room: str):
    for file in (ROOT / "stages" / room).rglob("*.py"):
        for name in imports(file.relative_to(ROOT)):
            if name.startswith("stages.") and name != "stages.UserError":
                assert name.split(".")[1] in MAY_IMPORT[room] | {room}, f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("folder", ["stages", "starter", "bench"])
def test_modules_and_functions_are_short(folder: str):
    for file in (ROOT / folder).rglob("*.py"):
        text = file.read_text()
        assert len(text.splitlines()) <= 200, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 50, f"{file}: {node.name}"


def test_every_param_has_a_description():
    for name in SECTIONS:
        for field_name, field in schema(name).model_fields.items():
            assert field.description and len(field.description) > 10, f"{name}.{field_name}"


def test_committed_lock_belongs_to_the_committed_code_and_params(tmp_path: Path):
    project.git(ROOT, "clone", "-q", str(ROOT), str(tmp_path / "clone"))
    printed = project.run(tmp_path / "clone", "dvc", "repro", "--dry", "--allow-missing")
    assert "Data and pipelines are up to date" in printed, "run `dvc repro` and commit dvc.lock"
