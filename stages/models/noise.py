"""Counted randomness: every draw is a pure function of what it is for, so nothing depends on what was drawn before.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a 256-bit counter and a 128-bit key to
random bits. The seed and the stream are the key; step and sample stand in the counter, whose lowest word is left free
for the values of one draw. Whatever the micro-batch, the number of processes, or the step at which a run went on,
sample `i` of step `t` is the same.
"""

import numpy as np

STREAMS = ("posterior", "noise", "timestep", "caption", "flip", "validation", "render", "picture", "initial")


def generator(seed: int, stream: str, step: int = 0, sample: int = 0) -> np.random.Generator:
    """(seed, stream, step, sample) => a generator of its own, with 2**64 blocks before it meets another."""
    key = np.array([seed, STREAMS.index(stream)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, sample, step, 0], dtype=np.uint64)))


def normal(seed: int, stream: str, step: int, sample: int, shape: tuple[int, ...]) -> np.ndarray:
    """(seed, stream, step, sample) => standard normal values of `shape`, float32."""
    return generator(seed, stream, step, sample).standard_normal(shape, dtype=np.float32)
