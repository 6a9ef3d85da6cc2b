"""The files of the embedding's snapshots, which training saves and which are rendered: their names and steps."""

from pathlib import Path

from stages import UserError


def snapshot_name(step: int) -> str:
    """Return the file name of the snapshot at a step."""
    return f"step-{step:06d}.safetensors"


def step_of(snapshot: Path) -> int:
    """Return the step of a snapshot, which is in its file name."""
    return int(snapshot.stem.rpartition("-")[2])


def choose_snapshots(folder: Path, count: int) -> tuple[Path, ...]:
    """Return `count` snapshots of a folder at equal distances up to the last one, or all if there are fewer.

    Raises UserError if there are none.
    """
    files = sorted(folder.glob("step-*.safetensors"), key=step_of)
    if count and not files:
        raise UserError(
            f"{folder} has no snapshots; set `train.snapshot_every` to less than `train.steps`, or `render.snapshots` "
            "to 0."
        )
    count = min(count, len(files))
    return tuple(files[-(-len(files) * i // count) - 1] for i in range(1, count + 1))
