"""Signals: a line instead of a traceback, an end together with DVC, and a flag that the training polls."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1


def set_handler(handler: Callable | signal.Handlers) -> dict[int, Any]:
    """Set the handler of SIGINT, SIGTERM and SIGHUP; return the old ones. `nohup` ignores SIGHUP, which stays so."""
    numbers = [n for n in STOPS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Let a signal unwind the stack of the block, so that its temporary files and workers are removed."""
    old = set_handler(_unwind)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    _set_second_handlers(dict.fromkeys(set_handler(signal.SIG_IGN), signal.SIG_DFL))
    _report(number)
    raise SystemExit(128 + number)


def _set_second_handlers(handlers: dict[int, Any]) -> None:
    """Set the handlers for a second signal. SIGTERM is ignored: the end of DVC sends one per thread of DVC."""
    for number, handler in (handlers | {signal.SIGTERM: signal.SIG_IGN}).items():
        signal.signal(number, handler)


def exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """End the process after a signal: during imports, an exception would be reported as a failed import."""
    _report(number)
    os._exit(128 + number)


def _report(number: int) -> None:
    stage, name = sys.orig_argv[-1].rpartition(".")[2], signal.Signals(number).name
    line = f"{stage}: stopped by {name}; run the same command to continue.\n"
    os.write(2, ("\n" * os.isatty(2) + line).encode())  # `print` must not be called while it is running


def end_with_starter(number: int) -> None:
    """Receive a signal when the process that started this one ends, however it ends. Only Linux can do this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        # It may have ended before the call. A process that leads no group of its own is in the group of its starter.
        if os.getpgrp() not in (os.getpid(), os.getpgid(os.getppid())):
            os.kill(os.getpid(), number)


class StopSignal:
    """Record the first signal after the first call in `received`; a second one but SIGTERM has its usual effect.

    Before the first call nothing polls, so a signal keeps its usual effect.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._handlers: dict[int, Any] = {}

    def __call__(self) -> bool:
        self._handlers = self._handlers or set_handler(self._record)
        return self.received is not None

    def release(self) -> None:
        """Restore the handlers from before the first call, and raise a recorded signal again."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.received is not None:
            signal.raise_signal(self.received)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        _set_second_handlers(self._handlers)
