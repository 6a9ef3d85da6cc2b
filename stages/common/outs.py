"""Read the outs of earlier stages, or raise a UserError that names the stage to run again."""

import csv
import json
from pathlib import Path
from typing import Any

from PIL import Image

from stages import UserError


def read_json(path: Path, stage: str) -> Any:
    """Return the value of a JSON file that `stage` writes."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); run `dvc repro {stage}`.") from None


def read_csv(path: Path, stage: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file that `stage` writes."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); run `dvc repro {stage}`.") from None


def read_text(path: Path) -> str:
    """Return a text that a user wrote, without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise UserError(f"{path} is not UTF-8 ({error}); correct the text file that it was copied from.") from None


def read_image(path: Path, stage: str) -> Image.Image:
    """Return an image that `stage` writes, as RGB."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as an image ({error}); run `dvc repro -f {stage}`.") from None
