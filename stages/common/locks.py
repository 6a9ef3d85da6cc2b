"""One run at a time in a scratch folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from stages import UserError


@contextlib.contextmanager
def lock(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` for this process; the kernel lets go when the process ends, however it ends.

    Raises UserError, naming the process that holds it, when another run has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"{what} already runs as process {holder} in {folder}; wait for it, or end it with `kill {holder}`."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
