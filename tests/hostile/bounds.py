"""What every hostile input must end in: a valid result or one line for the user, in bounded time and memory."""

import resource
import time
from collections.abc import Callable

from stages import UserError

SECONDS, MIB = 20, 400


def accepted(call: Callable[[], object]) -> bool:
    """Return whether `call` succeeds; a UserError must be one line. Any other exception fails the test."""
    start, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
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
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MIB << 10
