"""The params, files and make targets that the README names exist."""

import re

import pytest

from stages.common.params import SECTIONS, schema
from tests.closure import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
CREATED = ("data/", "report/", ".")  # by the stages or by the set-up


def test_params_exist():
    named = set(re.findall(rf"\b({'|'.join(SECTIONS)})\.([a-z_0-9]+)", TEXT))
    named = {(section, field) for section, field in named if field not in ("py", "yaml", "json")}
    assert len(named) > 20
    for section, field in named:
        fields = {f.alias or name for name, f in schema(section).model_fields.items()}
        assert field in fields, f"{section}.{field}"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make (\w+)`|^make (\w+)", TEXT, re.M)) - {("", "")}))
def test_make_targets_exist(target: tuple[str, str]):
    assert f"\n{''.join(target)}:" in (ROOT / "Makefile").read_text()


def test_linked_files_exist():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link


def test_paths_in_backticks_exist_or_are_outs():
    for path in re.findall(r"`((?:[\w-]+/)+[\w.-]*)`", TEXT):
        if (ROOT / path.split("/")[0]).is_dir() and not path.startswith(CREATED):
            assert (ROOT / path).exists(), path
