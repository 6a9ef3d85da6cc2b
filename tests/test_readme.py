"""What the README promises is there: its params, its files, its commands."""

import re

import pytest

from stages.common.params import SECTIONS, schema
from tests.closure import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
MADE = ("data/", "report/", ".")  # by the stages, or by setting up


def test_every_param_that_it_names_is_in_a_schema():
    named = set(re.findall(rf"\b({'|'.join(SECTIONS)})\.([a-z_0-9]+)", TEXT))
    named = {(section, field) for section, field in named if field not in ("py", "yaml")}
    assert len(named) > 20
    for section, field in named:
        fields = {f.alias or name for name, f in schema(section).model_fields.items()}
        assert field in fields, f"{section}.{field}"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make (\w+)`|^make (\w+)", TEXT, re.M)) - {("", "")}))
def test_every_command_of_make_that_it_names_is_there(target: tuple[str, str]):
    assert f"\n{''.join(target)}:" in (ROOT / "Makefile").read_text()


def test_every_file_that_it_links_is_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link


def test_every_path_in_backticks_is_there_or_made_by_a_stage():
    for path in re.findall(r"`((?:[\w-]+/)+[\w.-]*)`", TEXT):
        if (ROOT / path.split("/")[0]).is_dir() and not path.startswith(MADE):
            assert (ROOT / path).exists(), path
