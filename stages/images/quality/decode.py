"""Bytes of any kind => one upright picture, or why there is none."""

import importlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

# Pillow reads more, but these are what sets of pictures hold; a decoder that is never called cannot be attacked (and
# EPS would start another program). JPEG opens MPO too.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM")
ORIENTATION = 0x0112
# A format is known by its name once its module is there; Image.init would bring all forty.
for name in ("Avif", "Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP"):
    importlib.import_module(f"PIL.{name}ImagePlugin")


class UnreadableError(Exception):
    """Why a file has no picture to give, in a few words for the manifest."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded file: `image` is upright, RGB or RGBA, 8 bits; the rest says what the file was."""

    image: Image.Image
    format: str
    mode: str
    width: int
    height: int
    frames: int
    exif_rotation: int
    transparent: bool
    luma: list[int] | None  # a JPEG's own table of quantisation steps


def decode(content: bytes, max_megapixels: float) -> DecodedImage:
    """Bytes => the first frame, turned as its EXIF says. Raises UnreadableError for what cannot be decoded to its end.

    The size is checked before any pixel is decoded, so that a small file cannot ask for a large memory.
    """
    if not content:
        raise UnreadableError("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _decode(content, max_megapixels)
        except UnreadableError:
            raise
        except MemoryError:
            raise UnreadableError("too large to decode") from None
        except Exception as error:
            # Pillow's decoders raise nearly every exception there is on damaged files.
            raise UnreadableError(_words(error)) from None


def _decode(content: bytes, max_megapixels: float) -> DecodedImage:
    Image.MAX_IMAGE_PIXELS = None  # checked below, by our own limit
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise UnreadableError("not a picture") from None
    if image.width * image.height > max_megapixels * 1e6:
        raise UnreadableError(f"more than {max_megapixels:g} megapixels")
    form, mode = image.format or "", image.mode
    luma = (getattr(image, "quantization", None) or {}).get(0)
    frames = getattr(image, "n_frames", 1) if form in ("GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO") else 1
    image.load()
    if frames > 1:
        image.seek(0)
    rotation = _orientation(image)
    transparent = mode in ("RGBA", "LA", "La", "RGBa", "PA") or "transparency" in image.info
    image = eight_bits(image, transparent)
    if rotation != 1:
        image = _upright(image, rotation)
    if transparent:
        transparent = image.getchannel("A").getextrema()[0] < 255
        if not transparent:
            image = image.convert("RGB")
    return DecodedImage(image, form, mode, image.width, image.height, frames, rotation, transparent, luma)


def eight_bits(image: Image.Image, transparent: bool) -> Image.Image:
    """Any mode => RGB, or RGBA. More than 8 bits keep their high ones; a float picture its range."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        top = 65535.0 if image.mode == "I" else max(float(values.max()), 1e-12)
        image = Image.fromarray((values / top * 255).clip(0, 255).astype(np.uint8))
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    target = "RGBA" if transparent else "RGB"
    return image if image.mode == target else image.convert(target)


def flatten(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """RGBA over a plain colour => RGB; RGB is given back as it is."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGB", image.size, colour)
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1  # a damaged EXIF block says nothing
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: Image.Image, rotation: int) -> Image.Image:
    exif = Image.Exif()
    exif[ORIENTATION] = rotation
    plain = image.copy()
    plain.info = {"exif": exif.tobytes()}
    return ImageOps.exif_transpose(plain)


def _words(error: Exception) -> str:
    text = " ".join(str(error).split()).lower()
    for sign, words in {
        "truncated": "truncated",
        "premature end": "truncated",
        "broken png": "damaged",
        "broken data stream": "damaged",
        "bomb": "more megapixels than allowed",
        "unrecognized data stream": "damaged",
    }.items():
        if sign in text:
            return words
    return "damaged"
