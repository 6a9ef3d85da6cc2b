"""Seven pictures in, one new word out: the stages of the pipeline (a file each) and their rooms (a folder each)."""

import os

# On a machine that does other work as well, PyTorch's threads would wait for each other by spinning, and a step of two
# threads take sixty times as long (measured); so they soon go to sleep. It has to be said before PyTorch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")


class UserError(Exception):
    """What a person can mend: one sentence that says what is wrong, where, and what to do.

    Entries print it without a traceback and leave with exit code 1; every other exception is a fault of ours and keeps
    its traceback.
    """
