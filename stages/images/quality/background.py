"""What of a picture is its ground, and what its subject: of as many pictures of one size as are given together.

Legend: h w pixels, n pixels of the frame, ... pictures (or none: one picture). Pictures are three planes [..., 3, h, w]
uint8: a loop over interleaved channels would cost most of the time.
"""

import numpy as np

PLAIN = 40  # largest colour distance (of 441) that counts as the same plain colour
FLAT = 12  # the same for a ground that was drawn or cut out, where only compression tells two pixels apart
FRAMED = 0.5  # from this part of a frame of one colour on, what is not of it is the subject
WHOLE_SIDE = 0.95


def planes(pixels: np.ndarray) -> np.ndarray:
    """[..., h, w, 3] => [..., 3, h, w]."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, -3))


def frame(planes: np.ndarray) -> np.ndarray:
    """=> [..., 3, n], the pixels within 3 % of the shorter side from an edge (those of corners twice)."""
    depth = max(1, round(0.03 * min(planes.shape[-2:])))
    sides = (planes[..., :depth, :], planes[..., -depth:, :], planes[..., :depth], planes[..., -depth:])
    return np.concatenate([side.reshape(*planes.shape[:-2], -1) for side in sides], axis=-1)


def border(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[..., 3, n] => the frame's own colour [..., 3] (median), and the parts of it that have it: about, and exactly."""
    middle = frame.shape[-1] // 2
    colour = np.partition(frame, middle, axis=-1)[..., middle]
    apart = _squared(frame, colour)
    plain, flat = (np.add.reduce(apart <= most**2, axis=-1, dtype=int) / apart.shape[-1] for most in (PLAIN, FLAT))
    return colour, plain, flat


def colour(pixels: np.ndarray) -> tuple[int, int, int]:
    """[h, w, 3] => the colour of its frame."""
    red, green, blue = border(frame(planes(pixels)))[0].tolist()
    return red, green, blue


def subject(planes: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """[..., 3, h, w] and the border's colour [..., 3] => [..., h, w] bool: what is not that colour."""
    shape = planes.shape
    return (_squared(planes.reshape(*shape[:-2], -1), colour) > PLAIN**2).reshape(*shape[:-3], *shape[-2:])


def _squared(planes: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """[..., 3, n] and a colour [..., 3] => [..., n], the squared distances to it."""
    total = 0
    for channel in range(3):
        apart = planes[..., channel, :] - colour[..., channel, None].astype(np.int32)
        apart *= apart
        total += apart
    return total


def frame_contact(masks: np.ndarray) -> list[float | None]:
    """Subjects [k, h, w] => how much of the frame's sides they cover, in sides (0..4); None where one is covered whole.

    What covers a whole side is ground with a horizon, of which a subject cannot be told. A bust, which leaves by the
    bottom alone, has about a half; what was cut out of a larger picture leaves by two sides and has more.
    """
    sides = [np.mean(side, axis=1).tolist() for side in (masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1])]
    return [sum(four) if max(four) < WHOLE_SIDE else None for four in zip(*sides, strict=True)]
