"""A loop that launches a step before it knows the last one learns what a loop that waits learns, to the bit."""

import copy
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import UserError
from stages.inversion import optimizer
from stages.inversion.callbacks import Surroundings
from stages.inversion.checkpoint import State
from stages.inversion.diffusion_loss import Compute
from stages.inversion.loop import Crew, PausedError, learn, start
from stages.inversion.optimizer import Optimizer
from stages.inversion.params import Train
from stages.inversion.sampler import Batch
from stages.models.noise import normal
from tests.inversion.tiny_training import Notebook, Solo, opened, run

WORD = (2, 5)
RECIPE = Train(
    steps=12,
    batch_size=4,
    learning_rate=0.1,
    validation_every=4,
    snapshot_every=3,
    progress_every=5,
    mixed_precision="fp16",
    max_gradient_norm=1.0,
    max_vector_norm=1.5,
)
FIRST = 2.0**16


def batch_of(step: int, samples: range) -> Batch:
    """=> samples whose latents are the words that they pull at, and whose timesteps are the step."""
    pulls = [torch.from_numpy(normal(0, "noise", step, sample, WORD)) for sample in samples]
    steps = torch.full((len(pulls),), step)
    return Batch(torch.stack(pulls), torch.stack(pulls), steps, steps, torch.ones(len(pulls)))


class Pulls:
    """A sampler of them."""

    def draw(self, step: int, samples: range) -> Batch:
        return batch_of(step, samples)


class Toy(Compute):
    """Vectors are pulled at; a step overflows in half precision while its scale is above its limit."""

    def __init__(self, ahead: int, limits: dict[int, float]) -> None:
        self.device, self.micro_batch, self.ahead = torch.device("cpu"), RECIPE.batch_size, ahead
        self._limits = limits
        self.launched: list[tuple[int, float]] = []
        self.read: list[int] = []

    def gradient(self, vectors: torch.Tensor, scale: float, batch: Batch) -> torch.Tensor:
        step = int(batch.timesteps[0])
        self.launched.append((step, scale))
        gradient = (vectors - batch.latents).sum(0) * (scale / RECIPE.batch_size)
        if scale > self._limits.get(step, np.inf):
            gradient[1, 2] = torch.inf
        return torch.cat([self.losses(vectors, batch).sum()[None] / RECIPE.batch_size, gradient.flatten()])

    def losses(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        return (vectors - batch.latents).square().flatten(1).mean(1)

    def fetch(self, tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
        launched = len(self.launched)

        def known() -> torch.Tensor:
            self.read.append(len(self.launched) - launched)
            return tensor

        return known


@dataclass
class Diary:
    """Surroundings that keep a copy of every state that is saved, which is at every step."""

    stop: Callable[[], bool] = lambda: False
    due: bool = True
    saved: list[State] = field(default_factory=list)
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    pictures: dict[int, np.ndarray] = field(default_factory=dict)

    def surroundings(self) -> Surroundings:
        return Surroundings(
            due=lambda: self.due,
            interrupted=self.stop,
            save=lambda state: self.saved.append(copy.deepcopy(state)),
            log=lambda values, step: self.logged.append((step, values)),
            picture=lambda pixels, step: self.pictures.update({step: pixels.copy()}),
            bar=lambda step, text: None,
        )


def train(
    compute: Toy,
    diary: Diary,
    *,
    recipe: Train = RECIPE,
    found: State | None = None,
    crew: Crew | None = None,
) -> State:
    """=> the state at the end."""
    known = normal(0, "noise", 1000, 0, WORD)
    state = copy.deepcopy(found) or start(recipe, torch.from_numpy(known), RECIPE.batch_size)
    return learn(
        recipe,
        state,
        compute,
        Pulls(),
        batch_of(1001, range(6)),
        optimizer=Optimizer(recipe, 1.0, state, "cpu"),
        known=known,
        sketch=lambda vectors: vectors,
        crew=crew or Solo(),
        around=diary.surroundings(),
    )


def same(one: State, other: State) -> None:
    """Every byte of everything."""
    for name, value in vars(other).items():
        here, there = np.asarray(getattr(one, name)), np.asarray(value)
        assert here.dtype == there.dtype, name
        assert here.tobytes() == there.tobytes(), name


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss scale grows after every three good steps."""
    monkeypatch.setattr(optimizer, "GROWTH_STEPS", 3)


def _scattered(seed: int) -> dict[int, float]:
    drawn = random.Random(seed)
    return {step: 2.0 ** drawn.randint(12, 18) for step in drawn.sample(range(12), 5)}


SCENES = {
    "none": {},
    "first step": {0: FIRST / 2},
    "two in a row": {5: FIRST / 4},
    "two steps, one after the other": {6: FIRST / 2, 7: FIRST / 4},
    "the step before an evaluation": {3: FIRST / 2},
    "the step after an evaluation": {4: FIRST / 2},
    "the step before a snapshot": {5: FIRST},
    "the step before a picture": {4: FIRST},
    "the step before the scale grows": {2: FIRST / 2},
    "the step after the scale has grown": {3: FIRST},
    "whenever the scale grows": dict.fromkeys(range(12), FIRST),
    "the last step": {11: FIRST},
    "the last step, often": {11: 1.0},
} | {f"scattered, {seed}": _scattered(seed) for seed in range(12)}


@pytest.mark.parametrize("limits", SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("ahead", [1, 2])
def test_a_step_ahead_changes_not_one_byte(limits: dict[int, float], ahead: int):
    computes, diaries = [Toy(0, limits), Toy(ahead, limits)], [Diary(), Diary()]
    waited, ran = (train(compute, diary) for compute, diary in zip(computes, diaries, strict=True))
    assert waited.step == 12
    assert waited.overflows == len(computes[0].launched) - 12
    assert (waited.overflows > 0) == bool(limits)
    same(ran, waited)
    assert diaries[1].logged == diaries[0].logged
    assert [state.step for state in diaries[1].saved] == [state.step for state in diaries[0].saved]
    for one, other in zip(diaries[1].saved, diaries[0].saved, strict=True):
        same(one, other)
    assert diaries[1].pictures.keys() == diaries[0].pictures.keys() == {0, 5, 10}
    assert all(np.array_equal(diaries[1].pictures[step], diaries[0].pictures[step]) for step in (0, 5, 10))


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_so_many_steps_are_under_way_when_one_is_read_and_none_is_launched_past_the_end(ahead: int):
    compute = Toy(ahead, {})
    train(compute, Diary())
    assert [step for step, _ in compute.launched] == list(range(12))
    assert compute.read == [ahead] * (12 - ahead) + list(range(ahead))[::-1]


@pytest.mark.parametrize("limits", [{}, {3: FIRST / 2}, {4: FIRST / 4, 6: FIRST / 8}, _scattered(3)])
@pytest.mark.parametrize("asked_at", [0, 1, 3, 4, 5, 11])
@pytest.mark.parametrize("ahead", [0, 1])
def test_asked_to_stop_it_saves_a_state_that_goes_on_as_if_nothing_had_been(
    limits: dict[int, float], asked_at: int, ahead: int
):
    """Asked when that step is first launched; with an overflow just before, it may be the step before that stops."""
    whole = train(Toy(0, limits), Diary())
    compute = Toy(ahead, limits)
    diary = Diary(stop=lambda: any(step == asked_at for step, _ in compute.launched), due=False)
    with pytest.raises(PausedError) as pause:
        train(compute, diary)
    (saved,) = diary.saved
    assert pause.value.step == saved.step == len(saved.losses)
    assert asked_at - ahead <= saved.step <= asked_at
    assert limits or saved.step == asked_at
    for rest in (0, 1):
        same(train(Toy(rest, limits), Diary(), found=saved), whole)


@pytest.mark.parametrize("ahead", [0, 1])
def test_every_checkpoint_goes_on_to_the_same_bytes(ahead: int):
    limits = SCENES["whenever the scale grows"]
    diary = Diary()
    whole = train(Toy(ahead, limits), diary)
    for saved in diary.saved:
        same(train(Toy(1 - ahead, limits), Diary(), found=saved), whole)


@pytest.mark.parametrize("ahead", [0, 1])
def test_when_no_scale_can_help_the_step_and_its_timesteps_are_named(ahead: int):
    with pytest.raises(UserError, match=r"step 5 \(timesteps \[5, 5, 5, 5\]\) is not a number"):
        train(Toy(ahead, {5: 0.0}), Diary())


@pytest.mark.parametrize("ahead", [0, 1])
def test_stopped_early_nothing_of_what_is_under_way_is_kept(ahead: int):
    options = {"early_stopping": "plateau", "early_stopping_patience": 4, "early_stopping_fall": 0.5}
    recipe = RECIPE.model_copy(update=options)
    state = train(Toy(ahead, {}), Diary(), recipe=recipe)
    assert state.step == len(state.losses) == 4
    same(state, train(Toy(0, {}), Diary(), recipe=recipe))


@dataclass
class Seat:
    """A process among two, which are threads here: what they sum, they sum together."""

    process_index: int
    table: threading.Barrier
    messages: list[torch.Tensor | None]
    summed: list[tuple[int, ...]] = field(default_factory=list)
    num_processes: int = 2

    @property
    def is_main_process(self) -> bool:
        return self.process_index == 0

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        self.messages[self.process_index] = tensor
        self.table.wait()
        one, other = self.messages
        self.table.wait()
        self.summed.append(tuple(tensor.shape))
        return one + other

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the loop asks for sums only")


def pair(ahead: int, limits: list[dict[int, float]], stop_at: int | None) -> tuple[list[Diary], list[Seat], list]:
    """Two processes; the first saves at every step, the second is asked to stop => what they wrote, did and gave."""
    computes = [Toy(ahead, own) for own in limits]
    asked = [lambda: False, lambda: any(step == stop_at for step, _ in computes[1].launched)]
    diaries = [Diary(stop=stop, due=not rank) for rank, stop in enumerate(asked)]
    table, messages, ends = threading.Barrier(2, timeout=20), [None, None], [None, None]
    seats = [Seat(rank, table, messages) for rank in (0, 1)]

    def work(rank: int) -> None:
        try:
            ends[rank] = train(computes[rank], diaries[rank], crew=seats[rank])
        except PausedError as pause:
            ends[rank] = pause.step

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return diaries, seats, ends


LIMITS = [{}, {3: FIRST / 2, 7: FIRST / 4}]


def test_two_processes_of_which_one_overflows_sum_the_same_steps():
    for ahead in (0, 1):
        diaries, seats, ends = pair(ahead, LIMITS, None)
        assert seats[0].summed == seats[1].summed
        same(ends[0], ends[1])
        if not ahead:
            waited, kept = ends[0], diaries[0].saved
    assert waited.overflows >= 2
    same(ends[0], waited)
    for one, other in zip(diaries[0].saved, kept, strict=True):
        same(one, other)


@pytest.mark.parametrize("stop_at", [0, 3, 4, 7, 11])
@pytest.mark.parametrize("ahead", [0, 1])
def test_two_processes_of_which_one_is_asked_stop_at_the_same_step(ahead: int, stop_at: int):
    diaries, seats, ends = pair(ahead, LIMITS, stop_at)
    assert ends[0] == ends[1] in range(stop_at - ahead, stop_at + 1)
    assert seats[0].summed == seats[1].summed
    same(diaries[0].saved[-1], diaries[1].saved[-1])


def test_a_real_model_learns_the_same_word_ahead_and_goes_on_to_it(folder: Path, curated: Path):
    options = {"mixed_precision": "fp16", "snapshot_every": 2, "progress_every": 3}
    waited = run(opened(folder), curated, **options)
    same(run(opened(folder), curated, ahead=1, **options), waited)
    notebook = Notebook(stop_at=3)
    with pytest.raises(PausedError) as pause:
        run(opened(folder), curated, ahead=1, notebook=notebook, **options)
    assert pause.value.step == notebook.saved[0].step == 3
    same(run(opened(folder), curated, ahead=1, found=notebook.saved[0], **options), waited)
