"""Seven pictures in, one new word out: the stages of the pipeline (a file each) and their rooms (a folder each)."""


class UserError(Exception):
    """What a person can mend: one sentence that says what is wrong, where, and what to do.

    Entries print it without a traceback and leave with exit code 1; every other exception is a fault of ours and keeps
    its traceback.
    """
