"""What happens around the `main()` of every stage: its name, its time, and one sentence instead of a traceback."""

import errno
import functools
import os
import sys
import time
from collections.abc import Callable

from stages import UserError

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
    """`main() -> what it made and where` => the same, timed, told, and with errors in one sentence."""
    name = main.__module__ if main.__module__ != "__main__" else sys.modules["__main__"].__spec__.name
    name = name.rsplit(".", 1)[-1]

    @functools.wraps(main)
    def run() -> None:
        first = os.environ.get("RANK", "0") == "0"
        started = time.monotonic()
        try:
            made = main()
        except UserError as error:
            raise SystemExit(f"{name}: {error}") from None
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                raise
            raise SystemExit(
                f"{name}: {error.strerror}: {error.filename}; make room or allow writing there, and run again."
            ) from None
        if first:
            print(f"{name}: {made} ({time.monotonic() - started:.1f} s)", flush=True)

    return run
