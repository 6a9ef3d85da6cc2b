"""Counted random numbers: a draw is a pure function of its purpose, so nothing depends on earlier draws.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a 256-bit counter and a 128-bit key to
random bits. The seed and the stream are the key; step and sample are words of the counter, whose lowest word is left to
the values of one draw. Sample `i` of step `t` is the same for any micro-batch, number of processes or resume point.
"""

import numpy as np

# The position in this tuple is part of the key: append new streams at the end.
STREAMS = (
    "posterior",
    "noise",
    "timestep",
    "caption",
    "flip",
    "validation",
    "render",
    "image",
    "initial",
    "test",
    "search",
)


def generator(seed: int, stream: str, step: int = 0, sample: int = 0) -> np.random.Generator:
    """Return the generator of (seed, stream, step, sample); it has 2**64 blocks before it meets another one."""
    key = np.array([seed, STREAMS.index(stream)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, sample, step, 0], dtype=np.uint64)))


def normal(seed: int, stream: str, step: int, sample: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw standard normal values of `shape`, float32."""
    return generator(seed, stream, step, sample).standard_normal(shape, dtype=np.float32)
