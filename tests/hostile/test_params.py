"""Every field of params.yaml with values that make no sense."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from stages.common.params import SECTIONS, read, schema, validate
from tests.hostile.bounds import accepted
from tests.project import SMALL

FIELDS = [(name, field.alias or key) for name in SECTIONS for key, field in schema(name).model_fields.items()]
NUMBERS = [float("nan"), float("inf"), -1, 10**12, 2**64, 10**4000, 1e308, 1j]
TEXTS = ["\ud800", "a\nb", "\0", "x" * 300, "\u200b", "x" * 10**5, b"bytes"]
OTHERS = [[[[[]]]], {1: 2}, {None: None}, {"a" * 300: 1}, [True], [None], {"\ud800": 1}, object()]
CASES = [(*field, kind, random.Random(f"{field}{i}").choice(kind)) for field in FIELDS for i, kind in
         enumerate((NUMBERS, TEXTS, OTHERS))]  # fmt: skip
FILES = {
    "digits": "a: " + "9" * 5000,
    "nesting": "[" * 500,
    "float": "a: !!float x",
    "integer": "a: !!int x",
    "binary": "a: !!binary x",
    "object": "a: !!python/object:os.system x",
    "itself": "&a [*a]",
    "merge": "a: {<<: 1}",
    "key": "{[a]: 1}",
    "number as section": "1: {}",
    "null as section": "null: {}",
    "surrogate as section": '"\\ud800": {}',
    "long section": "a" * 900 + ": {}",
    "duplicate": "a: 1\na: 2",
    "tab": "a:\n\tb: 1",
    "too long": "# " + "x" * 10**6,
    "alias bomb": "a: &a [x]\n" + "".join(f"{b}: &{b} [{f'*{a}, ' * 9}]\n" for a, b in pairwise("abcdefghi")),
    "latin 1": "a: \udce9",
}


@pytest.mark.parametrize("kind", [NUMBERS, TEXTS, OTHERS], ids=["numbers", "texts", "others"])
def test_value_is_refused(kind: list):
    for section, field, values, value in CASES:
        if values is kind:
            params = SMALL | {section: SMALL.get(section, {}) | {field: value}}
            assert not accepted(lambda params=params: validate(params, Path("params.yaml"))), (section, field, value)


@pytest.mark.parametrize("section", SECTIONS)
def test_section_of_another_type_is_refused(section: str):
    for value in (0, 1, [], "text", True, [{}]):
        assert not accepted(lambda value=value: validate(SMALL | {section: value}, Path("params.yaml"))), value


@pytest.mark.parametrize("name", FILES)
def test_file_is_refused(name: str, tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text(FILES[name], encoding="utf-8", errors="surrogateescape")
    assert not accepted(lambda: validate(read(path), path))


@pytest.mark.parametrize("section", sorted(SECTIONS.keys() - {"runtime"}))
def test_missing_section_is_refused_as_by_dvc(section: str):
    params = {name: value for name, value in SMALL.items() if name != section}
    assert not accepted(lambda: validate(params, Path("params.yaml")))
