"""The decorator of every stage's `main()`: prints one line of results, or one line for a user's error."""

import atexit
import contextlib
import errno
import functools
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from stages import UserError
from stages.common.locks import lock
from stages.common.signals import unwinding

NOT_WRITABLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
}


def stage(main: Callable[[], str]) -> Callable[[], None]:
    """Wrap `main`, which returns a sentence on its results: print it with the time that it took.

    One process at a time runs a stage in a project. UserError and errors of a full or read-only disk end the process
    with one line and exit code 1, a signal with one line and 128 + its number, without a traceback. The process of a
    module that runs as a program ends here: exit handlers run, and callers of `main` get no control back.
    """
    is_program = main.__module__ == "__main__"
    name = sys.modules["__main__"].__spec__.name if is_program else main.__module__
    name = name.rsplit(".", 1)[-1]

    @functools.wraps(main)
    def run() -> None:
        is_main_process = os.environ.get("RANK", "0") == "0"
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal may not be able to print every character
        start = time.monotonic()
        try:
            with unwinding(), lock(name) if is_main_process else contextlib.nullcontext():
                summary = main()
        except UserError as error:
            raise SystemExit(f"{name}: {error}") from None
        except SystemExit as stop:
            if is_program and isinstance(stop.code, int) and stop.code > 128:  # a signal
                _exit(stop.code)
            raise
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                raise
            path = error.filename or f"{Path.cwd()} or {os.environ.get('TMPDIR', '/tmp')}"
            raise SystemExit(
                f"{name}: {error.strerror}: {path}; free some space or allow writing there, and run again."
            ) from None
        if is_main_process:
            print(f"{name}: {summary} ({time.monotonic() - start:.1f} s)", flush=True)
        if is_program:
            atexit._run_exitfuncs()
            _exit(0)

    return run


def _exit(code: int) -> NoReturn:
    """End the process without the teardown of Python's modules, which takes two seconds once PyTorch is imported."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
