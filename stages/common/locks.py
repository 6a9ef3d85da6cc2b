"""Allow one run of a stage at a time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from stages import UserError

FOLDER = Path(".scratch")
SECONDS = 5  # a stage that received a signal may need as long to finish its step


@contextlib.contextmanager
def lock(stage: str) -> Iterator[None]:
    """Lock a stage of this project for this process; the kernel releases the lock when the process ends.

    Raises UserError with the process id of the holder if another run has it.
    """
    FOLDER.mkdir(exist_ok=True)
    file, holder = FileLock(FOLDER / f"{stage}.lock", timeout=SECONDS), FOLDER / f"{stage}.pid"
    try:
        file.acquire()
    except Timeout:
        pid = holder.read_text() if holder.is_file() else "unknown"
        raise UserError(
            f"{stage} is already running as process {pid}; wait for it, or end it with `kill {pid}`."
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        file.release()
