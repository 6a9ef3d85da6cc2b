"""Cells => picture files, each drawn once: what an earlier run finished is not drawn again."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from stages.rendering.jobs import Job


def draw_all(
    cells: Iterable[Job],
    place: Callable[[Job], Path],
    open_painter: Callable[[], Callable[[Job], Image.Image]],
    write: Callable[[Path, bytes], None],
) -> None:
    """Every cell => a whole PNG at `place(cell)`; the model is opened only when there is something to draw.

    `write` writes a file whole or not at all. One that is there but cannot be read is drawn again.
    """
    paint = None
    for cell in cells:
        if not _whole(place(cell)):
            paint = paint or open_painter()
            write(place(cell), png(paint(cell)))


def png(image: Image.Image) -> bytes:
    """A picture => PNG bytes with nothing in them but the picture."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _whole(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True
