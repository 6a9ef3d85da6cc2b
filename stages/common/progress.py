"""A progress bar for a terminal, and a few lines for a log."""

import sys
from typing import Any

from tqdm import tqdm

LINES = 10


def progress(name: str, total: int, unit: str, *, initial: int = 0, is_shown: bool = True) -> tqdm:
    """Return tqdm's bar on stderr; if stderr is no terminal, the bar prints about LINES lines instead."""
    options = {"desc": name, "total": total, "unit": unit, "initial": initial, "disable": not is_shown}
    return tqdm(**options) if sys.stderr.isatty() else _Lines(**options)


class _Lines(tqdm):
    """Print a line whenever another tenth is done; a log cannot overwrite its last line as a terminal can."""

    def __init__(self, *, total: int, unit: str, **options: Any) -> None:
        form = "{desc}: {n_fmt}/{total_fmt} " + unit + "s in {elapsed}, {rate_fmt}{postfix}"
        intervals = {"miniters": -(-total // LINES), "mininterval": 0, "maxinterval": float("inf")}
        self._printed = options["initial"]
        super().__init__(total=total, unit=unit, bar_format=form, **intervals, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Print the state, unless it is that of the last line."""
        if self.n > self._printed:
            self._printed = self.n
            print(self, file=self.fp, flush=True)

    def clear(self, nolock: bool = False) -> None:
        """Leave the lines as they are."""

    def close(self) -> None:
        """Print the last state."""
        if not self.disable:
            self.display()
            self.disable = True
            self._decr_instances(self)
