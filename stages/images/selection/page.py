"""A choice => one self-contained page on which a person marks what to include and exclude."""

import base64
import io
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from PIL import Image

from stages.images.selection.contact_sheet import thumbnail

SIDE = 200
MOST = 2000  # cards; the best of a class of more


def page(title: str, lead: str, sections: list[dict], lists: dict) -> str:
    """Sections [{"key", "heading", "note", "cells"}] and {"include", "exclude", "count"} as params have them => HTML.

    A cell: {"image": () -> RGB or None, "name", "note", "score", "terms": [(name, value)], "mark", "by"}.
    """
    left, shown = MOST, []
    for section in sections:
        cells = section["cells"][: max(left, 0)]
        left -= len(cells)
        if cells:
            shown.append(section | {"cells": [cell | {"uri": _uri(thumbnail(cell["image"], SIDE))} for cell in cells]})
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.render(title=title, lead=lead, sections=shown, lists=lists) + "\n"


def _uri(image: Image.Image | None) -> str:
    if image is None:
        return ""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
