"""Find images that show a part of another image, or all of it, also mirrored."""

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.signal import fftconvolve

from stages.images.quality.decode import fit

SIDE = 64  # longer side in pixels of the image that is searched
SCALES = 0.93 ** np.arange(15)  # sizes of the part, as shares of the largest that fits
LEAST_DEVIATION = 3  # grey levels: plain parts of an image match anything
SAME = 0.85  # correlation: crops of photographs, as JPEG, have 0.87 and more, and most other pairs below 0.7


def is_part(part: Image.Image, image: Image.Image) -> bool:
    """Return whether a grey image shows a part of another, by template matching (Lewis 1995) in several sizes."""
    searched = fit(image, SIDE, Image.Resampling.BOX)
    pixels = np.asarray(searched, np.float64) - np.mean(searched)
    largest = min(searched.width / part.width, searched.height / part.height)
    for scale in largest * SCALES:
        size = [max(1, round(scale * length)) for length in part.size]
        template = np.asarray(part.resize(size, Image.Resampling.BOX), np.float64)
        template -= template.mean()
        inside = tuple(slice(n // 2, n // 2 + m - n + 1) for n, m in zip(template.shape, pixels.shape, strict=True))
        means, squares = (uniform_filter(values, template.shape)[inside] for values in (pixels, pixels**2))
        deviations = np.sqrt(np.maximum(squares - means**2, LEAST_DEVIATION**2)) * max(template.std(), LEAST_DEVIATION)
        for turned in (template[::-1, ::-1], template[::-1]):  # a convolution turns by 180 degrees; the second mirrors
            if (fftconvolve(pixels, turned / template.size, "valid") / deviations).max() >= SAME:
                return True
    return False
