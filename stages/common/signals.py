"""Turn SIGTERM and SIGINT into a flag that a stage polls between two steps."""

import signal
from types import FrameType


class StopSignal:
    """Record the first signal in `received`; a second signal has its usual effect."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._handlers = {number: signal.signal(number, self._record) for number in (signal.SIGTERM, signal.SIGINT)}

    def __call__(self) -> bool:
        return self.received is not None

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(number, self._handlers[number])
