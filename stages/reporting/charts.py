"""Numbers over steps => a drawing in percent of its frame, which a page stretches to any width.

Legend: E evaluations, S steps; x and y run from 0 to 100, y downwards.
"""

import math
from dataclasses import dataclass

MOST_POINTS = 800


@dataclass(frozen=True)
class Frame:
    """What the axes span."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """=> percent of the width."""
        return round(100 * (value - self.left) / ((self.right - self.left) or 1), 2)

    def y(self, value: float) -> float:
        """=> percent of the height, from above."""
        return round(100 * (self.high - value) / ((self.high - self.low) or 1), 2)


def objective(steps: list[int], relative: list[float], stderr: list[float]) -> dict:
    """The fixed objective (E each) => line, band, ticks, the height of 1.0, and where it is lowest."""
    low = min(value - error for value, error in zip(relative, stderr, strict=True))
    high = max(1.0, *(value + error for value, error in zip(relative, stderr, strict=True)))
    room = 0.08 * ((high - low) or 0.1)
    frame = Frame(steps[0], steps[-1], low - room, high + room)
    upper = [(frame.x(s), frame.y(v + e)) for s, v, e in zip(steps, relative, stderr, strict=True)]
    lower = [(frame.x(s), frame.y(v - e)) for s, v, e in zip(steps, relative, stderr, strict=True)]
    best = min(range(len(steps)), key=lambda i: relative[i])
    return {
        "line": points([(frame.x(s), frame.y(v)) for s, v in zip(steps, relative, strict=True)]),
        "band": points([*upper, *reversed(lower)]),
        "one": frame.y(1.0),
        "best": {"x": frame.x(steps[best]), "y": frame.y(relative[best]), "step": steps[best], "value": relative[best]},
        "xticks": [(frame.x(t), f"{t:,.0f}") for t in ticks(frame.left, frame.right, 5)],
        "yticks": _labelled(frame, 5),
    }


def loss(steps: list[int], values: list[float]) -> dict:
    """The raw loss (S) => a thin line; of long runs, the mean of every few steps."""
    span = math.ceil(len(steps) / MOST_POINTS)
    thin = [sum(part) / len(part) for part in (values[i : i + span] for i in range(0, len(values), span))]
    finite = [value for value in thin if math.isfinite(value)] or [0.0]
    frame = Frame(0, steps[-1], min(finite), max(finite))
    line = [(frame.x(steps[i * span]), frame.y(value)) for i, value in enumerate(thin) if math.isfinite(value)]
    return {"line": points(line), "low": f"{frame.low:.3g}", "high": f"{frame.high:.3g}", "every": span}


def points(pairs: list[tuple[float, float]]) -> str:
    """=> the points of an SVG line."""
    return " ".join(f"{x:g},{y:g}" for x, y in pairs)


def ticks(low: float, high: float, about: int) -> list[float]:
    """=> about so many round numbers within the span: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _labelled(frame: Frame, about: int) -> list[tuple[float, str]]:
    values = ticks(frame.low, frame.high, about)
    gap = values[1] - values[0] if len(values) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(gap) + 1e-9))
    return [(frame.y(value), f"{value:.{digits}f}") for value in values]
