"""Choose the start of training by successive halving (Jamieson & Talwalkar 2016).

The loss of an embedding before training says little about where training ends; its loss after some steps says nearly
all (docs/training.md). All starts see the same samples, and the chosen one goes on from where it is, so a run with a
search equals a run from the start that was chosen.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from stages.inversion.callbacks import Callbacks
from stages.inversion.state import TrainState
from stages.inversion.validation import FixedLoss


def search(
    states: list[TrainState], train: Callable[..., None], loss: FixedLoss, steps: int, callbacks: Callbacks
) -> TrainState:
    """Return the state with the lowest loss, after dropping the worse half at `steps`, twice `steps`, and so on.

    `train(state, callbacks=..., until=...)` advances a state; `loss` is that of the search batch.
    """
    if len(states) == 1:
        return states[0]
    races = [(state, SearchCallbacks(callbacks.stop_requested)) for state in states]
    while len(races) > 1:
        for state, kept in races:
            train(state, callbacks=kept, until=steps)
        races.sort(key=lambda race: loss(race[0].average).mean().item())
        races, steps = races[: len(races) // 2], 2 * steps
    ((state, kept),) = races
    kept.replay(callbacks)
    callbacks.save(state)  # so that a run that is stopped from now on does not search again
    return state


@dataclass
class SearchCallbacks:
    """The callbacks of a start that may be dropped: its scalars and previews are kept, and nothing is saved."""

    stop_requested: Callable[[], bool]
    scalars: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    previews: list[tuple[np.ndarray, int]] = field(default_factory=list)

    def log(self, step: int, **values: float) -> None:
        """Keep the scalars of a step of a start that the search compares."""
        self.scalars.append((step, values))

    def save(self, state: TrainState) -> None:
        """Save nothing: a search that was stopped begins again."""

    save_if_due = save

    def flush(self) -> None:
        """Send nothing to the trackers during the search."""

    def preview(self, pixels: np.ndarray, step: int) -> None:
        """Keep a preview image of a start that the search compares."""
        self.previews.append((pixels, step))

    def replay(self, callbacks: Callbacks) -> None:
        """Hand what the search kept of the chosen start to the callbacks of the run."""
        for step, values in self.scalars:
            callbacks.log(step, **values)
        for pixels, step in self.previews:
            callbacks.preview(pixels, step)
