"""Decode image files to upright 8-bit RGB or RGBA; flatten and resize images."""

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps

from stages.images.quality.background import content_box
from stages.images.quality.metrics import jpeg_quality

# Other decoders are never called: fewer can be attacked, and EPS would start another program. JPEG includes MPO.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM")
WHITE = (255, 255, 255)


class UnreadableError(Exception):
    """A file has no usable image. Its arguments are the `reason` and the `detail` of the manifest."""


def decode(content: bytes, max_megapixels: float = float("inf")) -> tuple[Image.Image, dict]:
    """Return the first frame of a file, and the columns of the manifest that describe the file.

    The frame is upright; RGBA if a pixel is transparent, else RGB, without bars. Raises UnreadableError for incomplete
    images.
    """
    with warnings.catch_warnings(action="ignore"):
        try:
            return _decode(content, max_megapixels)
        except UnreadableError:
            raise
        except Exception as error:
            # Pillow's decoders raise almost any exception on damaged files.
            if "truncated" in str(error).lower() or "premature end" in str(error).lower():
                raise UnreadableError("truncated", "the file ends before the image does") from None
            raise UnreadableError("damaged", f"the decoder fails with {type(error).__name__}") from None


def _decode(content: bytes, max_megapixels: float) -> tuple[Image.Image, dict]:
    Image.MAX_IMAGE_PIXELS = None  # replaced by max_megapixels
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise UnreadableError("not-an-image", "not in a supported image format") from None
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:  # checked before decoding, because a small file can declare a huge image
        raise UnreadableError("too-large", f"{megapixels:.0f} megapixels, at most {max_megapixels:g} allowed")
    columns = {"format": image.format, "mode": image.mode, "frames": getattr(image, "n_frames", 1)}
    table, transparent = (getattr(image, "quantization", None) or {}).get(0), image.has_transparency_data
    image.load()
    image, rotation = _upright(image)
    image = _eight_bit(image).convert("RGBA" if transparent else "RGB")
    if transparent and image.getchannel("A").getextrema()[0] == 255:
        image = image.convert("RGB")
    if image.mode == "RGB":
        image = image.crop(content_box(np.asarray(image.convert("L"))))
    columns |= {"width": image.width, "height": image.height, "exif_rotation": rotation}
    columns |= {"transparent": image.mode == "RGBA", "jpeg_quality": jpeg_quality(table) if table else None}
    return image, columns


def _upright(image: Image.Image) -> tuple[Image.Image, int]:
    """Rotate an image as its EXIF block says, and return the value of its orientation (1: upright)."""
    try:
        rotation = image.getexif().get(ExifTags.Base.Orientation)
        return ImageOps.exif_transpose(image), rotation if rotation in range(1, 9) else 1
    except Exception:
        return image, 1  # a damaged EXIF block does not make the image unusable


def _eight_bit(image: Image.Image) -> Image.Image:
    """Convert 16-bit, 32-bit and float images to 8-bit grey. All others are returned unchanged."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.nan_to_num(np.asarray(image, np.float32))
    highest = max(float(values.max()), 1e-12) if image.mode == "F" else 65535
    return Image.fromarray((values / highest * 255).clip(0, 255).round().astype(np.uint8))


def flatten(image: Image.Image, colour: tuple) -> Image.Image:
    """Flatten a decoded RGBA image onto one colour; return an RGB image unchanged."""
    if image.mode != "RGBA":
        return image
    canvas = Image.new("RGB", image.size, colour)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def fit(image: Image.Image, side: int, resample: Image.Resampling, reducing_gap: float | None = None) -> Image.Image:
    """Resize a decoded image so that its longer side is `side`, without distortion."""
    factor = side / max(image.size)
    return image.resize([max(1, round(length * factor)) for length in image.size], resample, reducing_gap=reducing_gap)


def shrink(image: Image.Image, side: int) -> Image.Image:
    """Shrink a decoded image to a longer side of at most `side`; its pixels are means over boxes."""
    factor, rest = divmod(max(image.size), side)
    if factor and not rest:
        return image.reduce(factor)  # exact means: `resize` rounds after each of its two passes
    return fit(image, side, Image.Resampling.BOX, reducing_gap=2.0) if factor else image
