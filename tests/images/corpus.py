"""Image files of every kind: valid, broken, and not images at all; and their rows in the manifest."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from stages.images.quality.manifest import build_manifest
from stages.images.quality.params import Filter


def rows(raw: Path, **params: object) -> dict[str, dict]:
    """Return the rows of the manifest of the class Thing, by file name."""
    manifest, _ = build_manifest(raw, Filter(**({"class": "Thing", "min_side_px": 48} | params)), 1)
    return {row["file"].removeprefix("Thing/"): row for row in manifest.to_dict("records")}


def save(tmp_path: Path, **images: Image.Image | bytes) -> Path:
    """Write images as PNG files of the class Thing and return the folder `raw`."""
    (tmp_path / "raw" / "Thing").mkdir(parents=True)
    for name, image in images.items():
        content = image if isinstance(image, bytes) else saved(image, "PNG")
        (tmp_path / "raw" / "Thing" / f"{name}.png").write_bytes(content)
    return tmp_path / "raw"


def scene(side: int, seed: int) -> Image.Image:
    """Draw a few sharp rectangles on a plain background."""
    rng = np.random.default_rng(seed)
    pixels = np.full((side, side, 3), 235, np.uint8)
    for _ in range(4):
        y, x = rng.integers(side // 8, side // 2, 2)
        h, w = rng.integers(side // 8, side // 3, 2)
        pixels[y : y + h, x : x + w] = rng.integers(0, 200, 3)
    return Image.fromarray(pixels)


def photo(side: int, seed: int) -> Image.Image:
    """Draw foliage under a smooth sky: sharp leaves of any direction, brightness and size up to the horizon."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(
        np.linspace((90, 140, 220), (190, 210, 240), side, axis=0).astype("u1")[:, None].repeat(side, 1)
    )
    pen = ImageDraw.Draw(image)
    for x, y in rng.uniform((0, 0.35), (1, 1), (side * side // 4, 2)) * side:
        ends = rng.normal((x, y), 2.5, (2, 2)).ravel().tolist()
        pen.line(ends, (int(rng.integers(20, 120)), int(rng.integers(60, 230)), int(rng.integers(10, 70))))
    for _ in range(6):  # flowers and stones, which differ from image to image
        x, y = rng.uniform(0, side, 2)
        colour = tuple(rng.integers(0, 255, 3).tolist())
        pen.ellipse([x, y, *(np.add((x, y), rng.uniform(side / 9, side / 3, 2)))], colour)
    return image


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def valid() -> dict[str, bytes]:
    """Return files with an image, by name."""
    image, frames, exif = scene(128, 0), [scene(64, i) for i in range(3)], Image.Exif()
    exif[0x0112] = 6
    alpha, grey = image.convert("RGBA"), np.asarray(image.convert("L"))
    alpha.putalpha(Image.fromarray(np.tri(128, dtype=np.uint8) * 255))
    animation = {"save_all": True, "append_images": frames[1:]}
    names = ("new\nline.png", "quote\"' ,;.png", "-rf.png", "日本語 ünïcödé.png", "..png")
    return {
        "progressive.jpg": saved(image, "JPEG", progressive=True),
        **{f"{mode}.jpg": saved(image.convert(mode), "JPEG") for mode in ("RGB", "L", "CMYK")},
        "turned.jpg": saved(image.resize((128, 96)), "JPEG", exif=exif),
        **{f"{mode}.png": saved(alpha.convert(mode), "PNG") for mode in ("RGB", "RGBA", "LA", "L", "1")},
        "palette.png": saved(alpha.quantize(16), "PNG"),
        "keyed.png": saved(image.convert("P"), "PNG", transparency=0),
        "sixteen.png": saved(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        "float.tiff": saved(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        **{f"animated.{form}": saved(frames[0], form, **animation) for form in ("GIF", "WEBP", "PNG")},
        **{f"still.{form}": saved(image, form) for form in ("WEBP", "AVIF", "BMP", "TIFF", "PPM")},
        "png called.jpg": saved(image, "PNG"),
        "no extension": saved(image, "JPEG"),
        **{name: saved(scene(128, seed), "PNG") for seed, name in enumerate(names, 1)},
    }


def unreadable() -> dict[str, tuple[bytes, str]]:
    """Return files without a usable image, and the reasons, by name."""
    return {
        "empty.jpg": (b"", "empty-file"),
        "page.jpg": (b"<!doctype html><html><body>404 Not Found</body></html>", "not-an-image"),
        "drawing.jpg": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', "not-an-image"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", "not-an-image"),
        "header.png": (b"\x89PNG\r\n\x1a\n", "not-an-image"),
        "bomb.png": (saved(Image.new("1", (20_000, 20_000)), "PNG"), "too-large"),
        "cut.jpg": (saved(scene(256, 7), "JPEG")[:1500], "truncated"),
        "cut.png": (saved(scene(256, 8), "PNG")[:300], "truncated"),
        "cut.webp": (saved(scene(256, 9), "WEBP")[:200], "damaged"),
    }


def write(folder: Path, count: int) -> None:
    """Write `count` files: all the above, links and a pipe, and mutations of the valid ones."""
    folder.mkdir(parents=True)
    for name, content in (valid() | {name: content for name, (content, _) in unreadable().items()}).items():
        (folder / name).write_bytes(content)
    (folder / "link.png").symlink_to(folder / "RGB.png")
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    rng, contents = np.random.default_rng(0), list(valid().values())
    for i in range(count - len(list(folder.iterdir()))):
        content = contents[i % len(contents)]
        a, b = sorted(rng.integers(0, len(content), 2).tolist())
        noise = rng.bytes(1 + (b - a) // 99)
        mutants = (
            content[:b],
            content[:a] + noise + content[a + len(noise) :],
            content[:a] + content[b:] + content[a:b],
        )
        (folder / f"mutant-{i:03d}.bin").write_bytes(mutants[i % 3])
