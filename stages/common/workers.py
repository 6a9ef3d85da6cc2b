"""Apply a function to items in worker processes, and survive workers that die or hang."""

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from stages import UserError

SECONDS = 60  # no sound image takes longer
STARTS = 5
CRASHED = "crashes-the-decoder", "the process that decodes it dies"
SLOW = "slow-to-decode", f"takes more than {SECONDS} s"


def map_in_workers(
    function: Callable, failed: Callable, items: list, workers: int, preload: str = __name__
) -> Iterator[tuple[Any, Any]]:
    """Yield each item with `function(item)` or `failed(item, *reason)`, in the order in which they are done.

    A worker dies if a decoder crashes, or if the OS kills it because memory is short. Its item is run again when all
    others are done, alone in a new worker. Only an item that kills two of those has failed. The module `preload` is
    imported once for all workers.
    """
    get_context("forkserver").set_forkserver_preload(["stages.common.fork_server", preload])
    try:
        tempfile.gettempdir()  # for the sockets of the workers
    except FileNotFoundError as error:
        raise UserError(f"{error.strerror}; free some space there, or set TMPDIR.") from None
    suspects = []
    for item, result in _run(function, items, workers):
        if result is CRASHED:
            suspects.append(item)
        else:
            yield item, failed(item, *SLOW) if result is SLOW else result
    for item in suspects:
        attempts = (result for _ in range(2) for _, result in _run(function, [item], 1))
        result = next((result for result in attempts if result is not CRASHED), CRASHED)
        yield item, failed(item, *result) if result is CRASHED or result is SLOW else result


def _run(function: Callable, items: list, workers: int) -> Iterator[tuple[Any, Any]]:
    waiting, idle, busy = items[::-1], [], {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                process, connection = idle.pop() if idle else _start(function)
                busy[connection] = process, waiting.pop(), time.monotonic()
                with contextlib.suppress(OSError):  # if the worker is dead, `recv` fails too
                    connection.send(busy[connection][1])
            ready = wait(busy, timeout=1)
            for connection, (process, item, start) in list(busy.items()):
                if connection in ready:
                    result = CRASHED
                    with contextlib.suppress(EOFError, OSError):
                        result = connection.recv()
                        idle.append((process, connection))
                    if isinstance(result, Exception):
                        raise result
                elif time.monotonic() - start > SECONDS:
                    process.kill()
                    result = SLOW
                else:
                    continue
                del busy[connection]
                yield item, result
    finally:
        for process, *_ in [*idle, *busy.values()]:
            process.kill()


def _start(function: Callable) -> tuple[Any, Connection]:
    context = get_context("forkserver")
    for _ in range(STARTS):
        connection, other_end = context.Pipe()
        process = context.Process(target=_serve, args=(other_end, function), daemon=True)
        process.start()
        other_end.close()  # so that the connection ends when the process does
        with contextlib.suppress(EOFError, OSError):
            connection.recv()  # the worker is ready
            return process, connection
    raise UserError(
        f"no worker process starts in {STARTS} attempts; see the messages above, and check the free memory."
    )


def _serve(connection: Connection, function: Callable) -> None:
    """Answer items with results until the main process closes the connection or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the main process ends the workers
    _end_with_parent()
    with contextlib.suppress(EOFError, BrokenPipeError):
        connection.send(None)
        while True:
            item = connection.recv()
            try:
                result = function(item)
            except Exception as error:  # a bug, which the main process reports
                result = error
            connection.send(result)


def _end_with_parent() -> None:
    """End this worker when the process that it works for ends, however that ends."""
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
