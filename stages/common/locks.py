"""Allow one run at a time in a scratch folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from stages import UserError


@contextlib.contextmanager
def lock(folder: Path, task: str) -> Iterator[None]:
    """Lock `folder` for this process; the kernel releases the lock when the process ends, however it ends.

    Raises UserError with the process id of the holder if another run has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, holder = FileLock(folder / "lock", blocking=False), folder / "pid"
    try:
        file.acquire()
    except Timeout:
        pid = holder.read_text() if holder.is_file() else "unknown"
        raise UserError(
            f"{task} is already running as process {pid} in {folder}; wait for it, or end it with `kill {pid}`."
        ) from None
    with file:
        holder.write_text(str(os.getpid()))
        try:
            yield
        finally:
            file.release()
