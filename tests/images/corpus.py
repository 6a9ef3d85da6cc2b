"""Two hundred files that are called pictures: valid ones of every kind, broken ones, and things that are none."""

import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def scene(side: int, seed: int) -> Image.Image:
    """=> RGB: a few sharp shapes on a plain ground."""
    random = np.random.default_rng(seed)
    pixels = np.full((side, side, 3), 235, np.uint8)
    for _ in range(4):
        y, x = random.integers(side // 8, side // 2, 2)
        h, w = random.integers(side // 8, side // 3, 2)
        pixels[y : y + h, x : x + w] = random.integers(0, 200, 3)
    return Image.fromarray(pixels)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def valid() -> dict[str, bytes]:
    """Name => content of what must be read."""
    image = scene(128, 0)
    frames = [scene(64, i) for i in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.fromarray(np.tri(128, dtype=np.uint8) * 255))
    palette = alpha.quantize(16)
    grey = np.asarray(image.convert("L"))
    return {
        "rgb.jpg": saved(image, "JPEG"),
        "progressive.jpg": saved(image, "JPEG", progressive=True),
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG"),
        "grey.jpg": saved(image.convert("L"), "JPEG"),
        "turned.jpg": saved(image.resize((128, 96)), "JPEG", exif=exif),
        "rgb.png": saved(image, "PNG"),
        "alpha.png": saved(alpha, "PNG"),
        "palette.png": saved(palette, "PNG"),
        "keyed.png": saved(image.convert("P"), "PNG", transparency=0),
        "one-bit.png": saved(image.convert("1"), "PNG"),
        "sixteen.png": saved(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        "la.png": saved(alpha.convert("LA"), "PNG"),
        "animated.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated.webp": saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "animated.png": saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "still.webp": saved(image, "WEBP"),
        "still.avif": saved(image, "AVIF"),
        "plain.bmp": saved(image, "BMP"),
        "plain.tiff": saved(image, "TIFF"),
        "float.tiff": saved(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        "plain.ppm": saved(image, "PPM"),
        "png called.jpg": saved(image, "PNG"),
        "no extension": saved(image, "JPEG"),
        "new\nline.png": saved(scene(128, 1), "PNG"),
        "quote\"' ,;.png": saved(scene(128, 2), "PNG"),
        "-rf.png": saved(scene(128, 3), "PNG"),
        "日本語 ünïcödé.png": saved(scene(128, 4), "PNG"),
        "..png": saved(scene(128, 5), "PNG"),
    }


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side: int) -> bytes:
    """A PNG of a few kB that says it is side x side, and means it."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compressobj()
    data = rows.compress(bytes((side // 8 + 1) * 64)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def none() -> dict[str, bytes]:
    """Name => content of what has no picture to give."""
    return {
        "empty.jpg": b"",
        "page.jpg": b"<!doctype html><html><body>404 Not Found</body></html>",
        "drawing.jpg": b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        "pickle.jpg": pickle.dumps({"a": list(range(50))}),
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        "text.png": b"hello",
        "zeros.jpg": bytes(4096),
        "bomb.png": bomb(20_000),
        "header.png": b"\x89PNG\r\n\x1a\n",
        "nul.gif": b"GIF89a" + bytes(20),
        "start.jpg": b"\xff\xd8\xff",
        "cut.jpg": saved(scene(256, 7), "JPEG")[:1500],
        "cut.png": saved(scene(256, 8), "PNG")[:300],
        "cut.webp": saved(scene(256, 9), "WEBP")[:200],
    }


def write(folder: Path, count: int, seed: int = 0) -> int:
    """=> `count` files in `folder`: all the above, links and a pipe, and mutations of the valid ones."""
    folder.mkdir(parents=True)
    base = valid()
    for name, content in (base | none()).items():
        (folder / name).write_bytes(content)
    (folder / "link.png").symlink_to(folder / "rgb.png")
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    random = np.random.default_rng(seed)
    contents = list(base.values())
    for i in range(count - len(list(folder.iterdir()))):
        content = bytearray(contents[i % len(contents)])
        match i % 4:
            case 0:
                content = content[: int(random.integers(1, len(content)))]
            case 1:
                for at in random.integers(0, len(content), 1 + len(content) // 100):
                    content[at] = int(random.integers(256))
            case 2:
                at = int(random.integers(0, min(len(content), 64)))
                content[at : at + 4] = random.bytes(4)
            case 3:
                a, b = sorted(random.integers(0, len(content), 2).tolist())
                content = content[:a] + content[b:] + content[a:b]
        (folder / f"mutant-{i:03d}.bin").write_bytes(content)
    return len(list(folder.iterdir()))
