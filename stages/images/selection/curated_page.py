"""Render data/curated.html: a self-contained page on which a person marks images to include and to exclude."""

import base64
import io
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from stages.images.selection.contact_sheet import HEADINGS, thumbnail
from stages.images.selection.params import Curate

SIDE = 200
MOST_IMAGES = 2000


def render_page(title: str, table: pd.DataFrame, raw: Path, params: Curate) -> str:
    """Return data/curated.html: a page with the first MOST_IMAGES rows of a ranked manifest."""
    images = table.head(MOST_IMAGES).to_dict("records")
    for image in images:
        image["uri"] = thumbnail_uri(raw / image["file"]) if image["phash"] else ""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("curated_page.html").read_text(encoding="utf-8"))
    counts, overrides = table["part"].value_counts(), params.model_dump(include={"include", "exclude", "count"})
    return template.render(title=title, images=images, counts=counts, headings=HEADINGS, overrides=overrides) + "\n"


def thumbnail_uri(path: Path) -> str:
    """Return a thumbnail for the page of the curated images, as a data URI."""
    file = io.BytesIO()
    thumbnail(path, SIDE).save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
