"""Flatten transparency and resize without distortion."""

from PIL import Image

WHITE = (255, 255, 255)


def flatten(image: Image.Image, colour: tuple) -> Image.Image:
    """Return an RGBA image on a plain background as RGB, and an RGB image unchanged."""
    if image.mode != "RGBA":
        return image
    canvas = Image.new("RGB", image.size, colour)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def fit(image: Image.Image, side: int, resample: Image.Resampling, reducing_gap: float | None = None) -> Image.Image:
    """Resize so that the longer side is `side`, without distortion."""
    factor = side / max(image.size)
    return image.resize([max(1, round(length * factor)) for length in image.size], resample, reducing_gap=reducing_gap)


def shrink(image: Image.Image, side: int) -> Image.Image:
    """Return the image with a longer side of at most `side`; its pixels are means over boxes."""
    factor, rest = divmod(max(image.size), side)
    if factor and not rest:
        return image.reduce(factor)  # exact means: `resize` rounds after each of its two passes
    return fit(image, side, Image.Resampling.BOX, reducing_gap=2.0) if factor else image
