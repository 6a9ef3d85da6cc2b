"""What every hostile input must end in: a valid result or one line for the user, in bounded time and memory."""

import re
import time
from collections.abc import Callable
from pathlib import Path

from stages import UserError

SECONDS, MIB = 20, 150


def memory(name: str) -> int:
    """Return a line of /proc/self/status in MiB: VmRSS, or its peak VmHWM."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) >> 10


def accepted(call: Callable[[], object], mib: int = MIB) -> bool:
    """Return whether `call` succeeds; a UserError must be one line. Any other exception fails the test."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    start, before = time.monotonic(), memory("VmRSS")
    try:
        call()
    except UserError as error:
        message = str(error)
        assert message.isprintable() and 20 < len(message) < 1000, message[:2000]
        return False
    else:
        return True
    finally:
        assert time.monotonic() - start < SECONDS
        assert memory("VmHWM") - before < mib
