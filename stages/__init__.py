"""The stages of the pipeline (one file each) and the packages that they use (one folder each)."""

import gc
import os
import sys

# When other processes use the cores as well, PyTorch's threads spin while they wait for each other, and a step of two
# threads takes sixty times as long (measured). A short spin count puts them to sleep; it must be set before the import.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")


if sys.argv[0] == "-m":  # Python is looking for the module of this package that it will run
    from stages.common import signals

    # With the default threshold, a tenth of the time of importing PyTorch and diffusers is garbage collection.
    gc.set_threshold(50_000, 20, 100)
    signals.set_handler(signals.exit_at_once)
    if "DVC_STAGE" in os.environ:
        signals.end_with_starter(signals.signal.SIGTERM)


class UserError(Exception):
    """An error that the user can correct: one sentence that says what is wrong, where, and what to do.

    The stage decorator prints it without a traceback and exits with code 1; any other exception is a bug and keeps its
    traceback.
    """
