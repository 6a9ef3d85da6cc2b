"""The search compares its starts on the same samples, and goes on from the best as a run from that start does."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from stages.inversion.diffusion_loss import DiffusionLoss
from stages.inversion.initialization import nearest_words, random_start, starts, word_starts
from stages.inversion.loop import PausedError
from stages.inversion.params import Train
from stages.inversion.search import SearchCallbacks, search
from stages.inversion.state import TrainState, initial_state
from stages.inversion.validation import FixedLoss, fixed_batch
from stages.models.stable_diffusion import StableDiffusion
from tests.inversion.test_sampler import SCHEDULE, latent_cache
from tests.inversion.tiny_training import CONCEPT, RecordingCallbacks, assert_same, open_tiny, run

SEARCH = CONCEPT.model_copy(update={"initialization": "search"})
OPTIONS = {"concept": SEARCH, "search_starts": 5, "search_steps": 2, "search_words": 3, "geometry": "sphere"}


def search_loss(backbone: StableDiffusion) -> FixedLoss:
    ids = backbone.text.tokenize(["a <critter>", "the <critter>", "photo of <critter>"])
    batch = fixed_batch(latent_cache(), ids, "search", schedule=SCHEDULE, seed=0, strata=2)
    return FixedLoss(DiffusionLoss(backbone, 4, 3, graph=False), batch, Accelerator(cpu=True))


def test_run_with_a_search_equals_a_run_from_its_start(folder: Path, curated: Path, monkeypatch: pytest.MonkeyPatch):
    found = run(open_tiny(folder, SEARCH), curated, **OPTIONS).state
    monkeypatch.setattr("stages.inversion.train.search", lambda states, *_: by_name(states, found.start))
    assert_same(run(open_tiny(folder, SEARCH), curated, **OPTIONS).state, found)


def by_name(states: list[TrainState], name: str) -> TrainState:
    return next(state for state in states if state.start == name)


def test_half_of_the_starts_is_dropped_by_loss_at_doubled_steps():
    states = [initial_state(Train(), str(i), torch.full((1, 2), float(i)), torch.ones(1)) for i in range(5)]
    trained: list[tuple[str, int]] = []

    def train(state: TrainState, *, callbacks: SearchCallbacks, until: int) -> None:
        trained.append((state.start, until))
        callbacks.log(until, loss=float(state.start))

    callbacks = RecordingCallbacks()
    best = search(states, train, lambda vectors: (vectors - 3.2).abs(), 10, callbacks)
    assert best.start == "3"
    assert trained == [(str(i), 10) for i in range(5)] + [("3", 20), ("4", 20)]
    assert callbacks.logged == [(10, {"loss": 3.0}), (20, {"loss": 3.0})]
    assert [state.start for state in callbacks.saved] == ["3"]


def test_single_start_is_not_compared():
    state = initial_state(Train(), "only", torch.zeros(1, 2), torch.ones(1))
    assert search([state], pytest.fail, pytest.fail, 10, RecordingCallbacks()) is state


def test_stopped_search_begins_again_with_the_same_result(folder: Path, curated: Path):
    class Stopping(RecordingCallbacks):
        def stop_requested(self) -> bool:
            return True

    stopped = Stopping()
    with pytest.raises(PausedError):
        run(open_tiny(folder, SEARCH), curated, callbacks=stopped, **OPTIONS)
    assert stopped.saved == []
    assert_same(*(run(open_tiny(folder, SEARCH), curated, **OPTIONS).state for _ in range(2)))


def test_words_are_ordered_by_their_loss_among_those_that_the_gradient_favours(folder: Path):
    backbone = open_tiny(folder)
    loss, table, words = search_loss(backbone), backbone.text.token_embeddings(), backbone.text.words()
    initializer = backbone.text.initializer_vectors()
    count = sum(bool(word) for word in words)
    ranked = word_starts(backbone.text, initializer, loss, count)
    assert {start.name for start in ranked} == {f"word {word}" for word in words if word}
    losses = [loss(start.vectors).mean().item() for start in ranked]
    assert losses == sorted(losses)
    # The gradient predicts the change of the loss of a small move towards a word.
    gradient, step = loss.gradient(initializer) / 2.0**8 * 4 / 10, 1e-2  # batch 4, 10 samples
    row = words.index(ranked[0].name.removeprefix("word "))
    moved = loss(initializer + step * (table[row] - initializer)).mean() - loss(initializer).mean()
    assert moved.item() == pytest.approx(step * ((table[row] - initializer) * gradient).sum().item(), rel=0.1)


def test_starts_of_a_search_and_of_other_initializations(folder: Path):
    backbone = open_tiny(folder)
    loss, recipe = search_loss(backbone), Train(search_starts=5, search_words=4)
    names = [start.name for start in starts(backbone.text, SEARCH, recipe, loss)]
    assert names[0] == "initializer token dragon"
    assert [name.split()[0] for name in names[1:]] == ["word", "word", "random", "random"]
    random = CONCEPT.model_copy(update={"initialization": "random", "vectors": 64})
    (start,) = starts(backbone.text, random, recipe, loss)
    assert torch.equal(start.vectors, random_start(backbone.text, 64, recipe.seed, 0).vectors)
    assert not torch.equal(start.vectors, random_start(backbone.text, 64, 1, 0).vectors)
    assert start.vectors.std() == pytest.approx(backbone.text.token_embeddings().std().item(), rel=0.1)
    (start,) = starts(backbone.text, CONCEPT, recipe, loss)
    assert torch.equal(start.vectors, backbone.text.initializer_vectors())


def test_nearest_word_of_a_word_is_itself(folder: Path):
    backbone = open_tiny(folder)
    assert nearest_words(backbone.text, 3 * backbone.text.initializer_vectors()).startswith("dragon, ")
