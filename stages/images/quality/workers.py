"""Map a function over items in worker processes, and survive the death of a worker."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any


def map_in_workers(function: Callable, items: list, workers: int, crashed: Callable) -> Iterator[Any]:
    """Yield `function(item)` for each item, in order.

    A worker dies if a decoder crashes, or if the OS kills it because memory is short. The first item without a result
    is then run alone, in a process of its own, and the others in new workers. Only an item that kills the process that
    runs it alone, and does so again, yields `crashed(item)`.
    """
    done = 0
    while done < len(items):
        pool = _pool(min(workers, len(items) - done))
        try:
            for result in pool.map(function, items[done:]):
                done += 1
                yield result
        except BrokenProcessPool:
            yield _run_alone(function, items[done], crashed)
            done += 1
        finally:
            pool.shutdown(cancel_futures=True)


def _run_alone(function: Callable, item: Any, crashed: Callable) -> Any:
    for _ in range(2):
        with _pool(1) as pool:
            try:
                return pool.submit(function, item).result()
            except BrokenProcessPool:
                continue
    with _pool(1) as pool:
        pool.submit(int).result()  # raises BrokenProcessPool if workers cannot even start
    return crashed(item)


def _pool(workers: int) -> ProcessPoolExecutor:
    context = get_context("forkserver")
    context.set_forkserver_preload(["stages.images.quality.manifest"])  # imported once for all workers
    ignore_interrupt = (signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the main process stops the workers
    return ProcessPoolExecutor(workers, context, signal.signal, ignore_interrupt)
