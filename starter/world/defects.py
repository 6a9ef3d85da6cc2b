"""Encode images as files with the defects of downloaded datasets, and as files that are unusual but usable.

Each public function except `encode` takes a clean RGB image of about 256 px and a generator, and returns the content of
a file and its extension.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

TRANSPOSES = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180, 8: Image.Transpose.ROTATE_270}
ORIENTATION = 0x0112


def encode(image: Image.Image, form: str, **options) -> bytes:
    """Encode an image in a format of Pillow."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def clean(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Encode a usable file in one of the usual formats."""
    form, extension, options = (
        ("PNG", "png", {}),
        ("JPEG", "jpg", {"quality": 95, "subsampling": 0}),
        ("JPEG", "jpeg", {"quality": 95, "subsampling": 0, "progressive": True}),
        ("PNG", "png", {}),
    )[rng.integers(4)]
    return encode(image, form, **options), extension


def transparent(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Cut the subject out of its white background; the transparent pixels are black, as in many real files."""
    filled = image.copy()
    for corner in ((0, 0), (image.width - 1, 0), (0, image.height - 1), (image.width - 1, image.height - 1)):
        ImageDraw.floodfill(filled, corner, (1, 254, 3), thresh=60)
    background = (np.asarray(filled) == (1, 254, 3)).all(2)
    mask = Image.fromarray(np.where(background, 0, 255).astype(np.uint8))
    cut = Image.composite(image, Image.new("RGB", image.size), mask)
    cut.putalpha(mask)
    return encode(cut, "PNG"), "png"


def rotated(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Rotate the pixels and set the EXIF orientation that undoes it."""
    value = (6, 8, 3)[rng.integers(3)]
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return encode(image.transpose(TRANSPOSES[value]), "JPEG", quality=95, subsampling=0, exif=exif), "jpg"


def misnamed(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Encode a usable image with the extension of another format."""
    form, extension = (("PNG", "jpg"), ("JPEG", "png"), ("WEBP", "jpg"))[rng.integers(3)]
    return encode(image, form, **({} if form == "PNG" else {"quality": 95})), extension


def blurred(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Blur the image, or enlarge it from a thumbnail."""
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(image.width * rng.uniform(0.015, 0.022)))
    else:
        image = image.resize((42, 42), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BICUBIC)
    return encode(image, "JPEG", quality=90), "jpg"


def tiny(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Shrink the image to an icon."""
    side = int(rng.integers(32, 72))
    return encode(image.resize((side, side), Image.Resampling.LANCZOS), "PNG"), "png"


def blocky(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Compress the image until blocks are visible."""
    return encode(image, "JPEG", quality=int(rng.integers(3, 6))), "jpg"


def cropped(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Crop the image so that half of the subject is outside of the frame."""
    w, h = image.size
    box = ((0.42, 0.12, 0.98, 0.68), (0.02, 0.1, 0.52, 0.6), (0.2, 0.5, 0.7, 1.0))[rng.integers(3)]
    part = image.crop(tuple(round(v * s) for v, s in zip(box, (w, h, w, h), strict=True)))
    return encode(part.resize((w, h), Image.Resampling.LANCZOS), "PNG"), "png"


def noisy(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Add strong noise."""
    pixels = np.asarray(image, np.float32) + rng.normal(0, rng.uniform(30, 42), (image.height, image.width, 3))
    return encode(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), "PNG"), "png"


def watermarked(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Repeat a watermark all over the image."""
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw, font = ImageDraw.Draw(layer), ImageFont.load_default(image.width // 9)
    text = ("SAMPLE", "PREVIEW", "stockart")[rng.integers(3)]
    for row in range(5):
        for column in range(-1, 3):
            position = (image.width * (0.55 * column + 0.2 * (row % 2)), image.height * (0.2 * row + 0.03))
            draw.text(position, text, (120, 120, 130, 170), font=font)
    image = Image.alpha_composite(image.convert("RGBA"), layer.rotate(24, Image.Resampling.BICUBIC))
    return encode(image.convert("RGB"), "JPEG", quality=92), "jpg"


def duplicate(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Encode the image again, smaller and with more compression."""
    side = round(image.width * rng.uniform(0.72, 0.9))
    return encode(image.resize((side, side), Image.Resampling.LANCZOS), "JPEG", quality=84), "jpg"


def truncated(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Cut the file off, as an interrupted transfer does."""
    content = encode(image, "JPEG", quality=92)
    return content[: int(len(content) * rng.uniform(0.3, 0.6))], "jpg"


def unreadable(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Return an HTML error page saved as an image."""
    return b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head><body></body></html>\n", "jpg"
