"""docs/params.md matches the schemas."""

import subprocess
import sys

from stages.common.params import SECTIONS, schema
from tests.closure import ROOT


def test_page_is_current():
    generated = subprocess.run(
        [sys.executable, "docs/reference.py"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout
    page = (ROOT / "docs" / "params.md").read_text(encoding="utf-8")
    assert page == generated, "generate it again: python docs/reference.py > docs/params.md"


def test_every_field_has_a_row():
    page = (ROOT / "docs" / "params.md").read_text(encoding="utf-8")
    for name in SECTIONS:
        part = page.split(f"## `{name}`")[1].split("\n## ")[0]
        for field_name, field in schema(name).model_fields.items():
            assert f"| `{field.alias or field_name}` |" in part
