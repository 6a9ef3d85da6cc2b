"""SIGTERM and SIGINT as a wish that a stage can ask for between two steps."""

import signal
from types import FrameType


class Stop:
    """Once made, a first signal is noted in `received`; a second one ends the process as it would have without this."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def __call__(self) -> bool:
        return self.received is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(number, self._before[number])
