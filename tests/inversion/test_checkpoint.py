"""Checkpoints are whole or ignored, and never taken from another run."""

from pathlib import Path

import pytest
import torch

from stages.inversion.checkpoint import KEPT, Checkpoints, dump_checkpoint, load_checkpoint
from stages.inversion.params import Train
from stages.inversion.state import LossScale, TrainState, initial_state
from tests.inversion.tiny_training import assert_same


def make_state(step: int = 3) -> TrainState:
    generator = torch.Generator().manual_seed(step)
    tensors, reference = torch.randn(5, 2, 5, generator=generator).unbind(), torch.rand(6, generator=generator)
    scale = LossScale(2.0**15, 9, 1)
    state = TrainState("word fox", *tensors, reference=reference, micro_batch=2, scale=scale, step=step)
    state.train_losses, state.norms = [0.1, 1 / 3, 2e-17], [1.0, 2.0, 3.0]
    state.record_validation(torch.rand(6, generator=generator))
    state.record_snapshot()
    return state


def test_loaded_state_equals_the_saved_one(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, "run", 60)
    checkpoints.save(make_state())
    assert_same(checkpoints.latest(pytest.fail), make_state())
    assert not checkpoints.due()


def test_state_before_the_first_validation_is_saved(tmp_path: Path):
    fresh = initial_state(Train(), "word fox", torch.zeros(1, 4), torch.ones(6))
    checkpoints = Checkpoints(tmp_path, "run", 0)
    checkpoints.save(fresh)
    assert_same(checkpoints.latest(pytest.fail), fresh)
    assert checkpoints.due()


def test_best_embedding_has_the_lowest_validation_loss():
    state = make_state()
    state.validated, state.validation, state.best = [], [], None
    for step, loss in enumerate((0.5, 0.4, 0.45)):
        state.step, state.average = step, torch.full((2, 5), float(step))
        state.record_validation(torch.full((6,), loss))
    assert (state.best_step, state.best[0, 0].item()) == (1, 1.0)


def test_only_the_last_checkpoints_are_kept_and_they_are_small(tmp_path: Path):
    for step in range(5):
        Checkpoints(tmp_path, "run", 60).save(make_state(step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"step-{step:08d}.safetensors" for step in (3, 4)][-KEPT:]
    assert all(path.stat().st_size < 4000 for path in tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "noise", "other run"])
def test_damaged_or_foreign_checkpoint_is_replaced_by_the_one_before(tmp_path: Path, damage: str):
    Checkpoints(tmp_path, "run", 60).save(make_state(1))
    Checkpoints(tmp_path, "other" if damage == "other run" else "run", 60).save(make_state(2))
    newest = tmp_path / "step-00000002.safetensors"
    content = newest.read_bytes()
    flipped = bytearray(content)
    flipped[-3] ^= 4
    damaged = {"cut": content[:-9], "bit": bytes(flipped), "empty": b"", "noise": b"\xff" * 500}
    newest.write_bytes(damaged.get(damage, content))
    warnings: list[str] = []
    assert_same(Checkpoints(tmp_path, "run", 60).latest(warnings.append), make_state(1))
    assert len(warnings) == 1
    assert warnings[0].startswith("checkpoint step-00000002.safetensors is damaged or of another run")
    assert not newest.exists()


def test_every_flipped_bit_is_detected(tmp_path: Path):
    content, path = dump_checkpoint(make_state(), "run"), tmp_path / "checkpoint"
    for position in range(0, len(content), 41):
        flipped = bytearray(content)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(bytes(flipped))
        state = load_checkpoint(path, "run")
        if state is not None:  # padding of the header
            assert_same(state, make_state())
