"""Checkpoints: all or nothing, and never another run's."""

from pathlib import Path

import numpy as np
import pytest

from stages.common.files import write_atomic
from stages.inversion.checkpoint import KEPT, State, dump, latest, load, save_in


def state(step: int = 3) -> State:
    random = np.random.default_rng(step)
    arrays = [random.normal(size=(2, 5)).astype(np.float32) for _ in range(3)]
    made = State(*arrays, micro_batch=2, scale=2.0**15, good_steps=9, overflows=1, step=step)
    made.losses, made.norms = [0.1, 1 / 3, 2e-17], [1.0, 2.0, 3.0]
    made.record(random.random(6).astype(np.float32))
    made.reference = random.random(6).astype(np.float32)
    made.snapshot()
    return made


def same(one: State | None, other: State) -> bool:
    """Bit for bit; files of the same state may differ in the order of their headers."""
    return one is not None and all(
        np.array_equal(np.asarray(value), np.asarray(getattr(one, name))) for name, value in vars(other).items()
    )


def test_what_is_saved_is_what_is_found(tmp_path: Path):
    saved = state()
    save_in(tmp_path, saved, "run", write_atomic)
    found = latest(tmp_path, "run", pytest.fail)
    assert same(found, saved)
    assert found.losses == saved.losses
    assert all(type(getattr(found, name)) is type(getattr(saved, name)) for name in vars(saved))


def test_the_first_one_has_no_curve_yet(tmp_path: Path):
    """A run that is stopped while the objective is first computed."""
    zeros = np.zeros((1, 4), dtype=np.float32)
    fresh = State(zeros, zeros, zeros, 1)
    save_in(tmp_path, fresh, "run", write_atomic)
    assert same(latest(tmp_path, "run", pytest.fail), fresh)


def test_the_last_ones_are_kept_and_small(tmp_path: Path):
    for step in range(5):
        save_in(tmp_path, state(step), "run", write_atomic)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"step-{step:08d}.safetensors" for step in (3, 4)][-KEPT:]
    assert all(path.stat().st_size < 4000 for path in tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path):
    save_in(tmp_path, state(1), "run", write_atomic)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with pytest.raises(OSError, match="No space left"):
        save_in(tmp_path, state(2), "run", full)
    assert latest(tmp_path, "run", pytest.fail).step == 1


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "noise", "foreign"])
def test_a_damaged_or_foreign_one_is_dropped_for_the_one_before(tmp_path: Path, damage: str):
    save_in(tmp_path, state(1), "run", write_atomic)
    save_in(tmp_path, state(2), "other" if damage == "foreign" else "run", write_atomic)
    newest = tmp_path / "step-00000002.safetensors"
    content = newest.read_bytes()
    flipped = bytearray(content)
    flipped[-3] ^= 4
    newest.write_bytes(
        {"cut": content[:-9], "bit": bytes(flipped), "empty": b"", "noise": b"\xff" * 500, "foreign": content}[damage]
    )
    said: list[str] = []
    assert same(latest(tmp_path, "run", said.append), state(1))
    assert len(said) == 1
    assert said[0].startswith("checkpoint step-00000002.safetensors is damaged or of another run and was dropped")
    assert not newest.exists()


def test_every_single_flipped_bit_is_found(tmp_path: Path):
    content = dump(state(), "run")
    path = tmp_path / "one"
    for place in range(0, len(content), 41):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(flipped))
        found = load(path, "run")
        assert found is None or same(found, state()), f"byte {place}"
