"""Find watermarks: letters of one colour that are spread over the image."""

import numpy as np
from scipy import ndimage

from stages.images.quality.background import PLAIN

LEAST = 8  # letters, and cells of a 4 x 4 grid that hold one


def watermark_shapes(pixels: np.ndarray, mask: np.ndarray) -> int:
    """Count the letter-sized shapes of one colour in an image [h, w, 3] of 128 px and its subject mask [h, w].

    Returns 0 unless they are spread over at least half of the image, as the name of a stock-image shop is.
    """
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    letters = {}  # label: cell of the grid that holds its centre
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        if 4 <= rows.stop - rows.start <= 24 and 2 <= columns.stop - columns.start <= 40:
            cell = (rows.start + rows.stop) * 2 // mask.shape[0], (columns.start + columns.stop) * 2 // mask.shape[1]
            letters[label] = cell
    if len(letters) < LEAST:
        return 0
    colours = np.stack([ndimage.mean(pixels[..., channel], labels, list(letters)) for channel in range(3)], axis=1)
    same_colour = np.linalg.norm(colours - np.median(colours, axis=0), axis=1) <= PLAIN
    cells = {cell for cell, same in zip(letters.values(), same_colour, strict=True) if same}
    return int(same_colour.sum()) if len(cells) >= LEAST else 0
