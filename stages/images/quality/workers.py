"""Many files => their rows and vectors, over the cores, whatever one of them does to the process that reads it."""

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context

import numpy as np

from stages.images.quality.row import LENGTH, Measurements

CHUNK = 64
KEPT_MIB = 16
PRELOAD = ["stages.images.quality.workers", "stages.images.quality.chunk"]  # once, for all processes


def inspect_all(
    files: list[tuple[str, str]], max_megapixels: float, workers: int
) -> Iterator[tuple[Measurements, np.ndarray]]:
    """(path, name)s => their rows and vectors, in the order given, by `workers` processes.

    Holds a few chunks at a time, whatever the number of files. A file that ends the process that reads it (a decoder's
    fault) is found by reading its chunk again, one process a file, and has a row that says so.
    """
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]
    if workers == 1 or len(files) <= CHUNK:
        yield from _in_one_process(chunks, max_megapixels)
        return
    waiting = iter(chunks)
    pool = _pool(workers)
    running = [(chunk, pool.submit(_chunk, chunk, max_megapixels)) for chunk in islice(waiting, 3 * workers)]
    try:
        while running:
            chunk, future = running.pop(0)
            try:
                yield from zip(*future.result(), strict=True)
            except BrokenProcessPool:
                yield from _one_by_one(chunk, max_megapixels)
                pool = _pool(workers)
                running = [(c, pool.submit(_chunk, c, max_megapixels)) for c, _ in running]
            following = next(waiting, None)
            if following is not None:
                running.append((following, pool.submit(_chunk, following, max_megapixels)))
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_ready)


def _ready() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone says that it was interrupted
    # glibc gives memory back to the system, and asks for it again for the next picture, unless it was seen to free a
    # larger piece. This one is never touched, so that it takes no memory.
    np.empty(KEPT_MIB << 20, np.uint8)


def _in_one_process(chunks: list, max_megapixels: float) -> Iterator[tuple[Measurements, np.ndarray]]:
    """Few files: not worth starting several processes, but still one that is not ours to lose."""
    pool = _pool(1)
    try:
        for chunk in chunks:
            try:
                yield from zip(*pool.submit(_chunk, chunk, max_megapixels).result(), strict=True)
            except BrokenProcessPool:
                yield from _one_by_one(chunk, max_megapixels)
                pool = _pool(1)
    finally:
        pool.shutdown(cancel_futures=True)


def _one_by_one(chunk: list[tuple[str, str]], max_megapixels: float) -> Iterator[tuple[Measurements, np.ndarray]]:
    for file in chunk:
        with _pool(1) as pool:
            try:
                yield from zip(*pool.submit(_chunk, [file], max_megapixels).result(), strict=True)
            except BrokenProcessPool:
                yield Measurements(file[1], problem="ends the decoder"), np.zeros(LENGTH, np.float32)


def _chunk(chunk: list[tuple[str, str]], max_megapixels: float) -> tuple[list[Measurements], np.ndarray]:
    from stages.images.quality.chunk import measured  # what decodes pictures is for the processes that do

    return measured(chunk, max_megapixels)
