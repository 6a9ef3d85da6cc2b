"""Allow one run of a stage at a time, and remove what killed stages left."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from stages import UserError
from stages.common.files import TEMPORARY

FOLDER = Path(".scratch")
SECONDS = 5  # a stage that received a signal may need as long to finish its step


@contextlib.contextmanager
def lock(stage: str) -> Iterator[None]:
    """Lock a stage of this project for this process; the kernel releases the lock when the process ends.

    Temporary files that killed stages left are removed.

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
        with _temporary_files():
            yield
    finally:
        file.release()


@contextlib.contextmanager
def _temporary_files() -> Iterator[None]:
    """Hold a lock on the temporary files, after removing those of killed stages if no other stage holds one.

    The lock is shared by the stages that run; getting an exclusive one means that there are no others.
    """
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    handle = os.open(TEMPORARY, os.O_RDONLY)
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for folder in TEMPORARY.iterdir():
                shutil.rmtree(folder, ignore_errors=True)
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)
