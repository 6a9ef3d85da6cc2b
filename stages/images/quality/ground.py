"""What of a picture is its ground, and what its subject.

Legend: h w pixels, n pixels of the frame. Pictures are three planes [3, h, w] uint8: a loop over interleaved channels
would cost most of the time.
"""

import numpy as np

PLAIN = 40  # largest colour distance (of 441) that counts as the same plain colour
FLAT = 12  # the same for a ground that was drawn or cut out, where only compression tells two pixels apart
FRAMED = 0.5  # from this part of a frame of one colour on, what is not of it is the subject
WHOLE_SIDE = 0.95


def planes(pixels: np.ndarray) -> np.ndarray:
    """[h, w, 3] => [3, h, w]."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def frame(planes: np.ndarray) -> np.ndarray:
    """[3, h, w] => [3, n], the pixels that are within 3 % of the shorter side from an edge (those of corners twice)."""
    depth = max(1, round(0.03 * min(planes.shape[1:])))
    sides = (planes[:, :depth], planes[:, -depth:], planes[:, :, :depth], planes[:, :, -depth:])
    return np.concatenate([side.reshape(3, -1) for side in sides], axis=1)


def border(frame: np.ndarray) -> tuple[tuple[int, int, int], float, float]:
    """[3, n] => the frame's own colour (median), and the parts of the frame that have it: about, and exactly."""
    count = frame.shape[1]
    red, green, blue = np.partition(frame, count // 2, axis=1)[:, count // 2].tolist()
    apart = _squared(frame, (red, green, blue))
    plain, flat = (np.count_nonzero(apart <= most**2) / count for most in (PLAIN, FLAT))
    return (red, green, blue), plain, flat


def colour(pixels: np.ndarray) -> tuple[int, int, int]:
    """[h, w, 3] => the colour of its frame."""
    return border(frame(planes(pixels)))[0]


def subject(planes: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """[3, h, w] and the border colour => [h, w] bool: what is not that colour."""
    return _squared(planes, colour) > PLAIN**2


def _squared(planes: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """[3, ...] => [...], the squared distances to a colour."""
    apart = planes - np.array(colour, np.int32).reshape(3, *[1] * (planes.ndim - 1))
    apart *= apart
    apart[0] += apart[1]
    apart[0] += apart[2]
    return apart[0]


def touching(mask: np.ndarray) -> float | None:
    """Subject [h, w] => how much of the frame's sides it covers, in sides (0..4); None where it covers one whole.

    What covers a whole side is ground with a horizon, of which a subject cannot be told. A bust, which leaves by the
    bottom alone, has about a half; what was cut out of a larger picture leaves by two sides and has more.
    """
    sides = [np.count_nonzero(side) / side.size for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])]
    return sum(sides) if max(sides) < WHOLE_SIDE else None
