"""Add the results of later stages to the run that training began in wandb and TensorBoard.

dvclive needs no addition: DVC shows the grid and the metrics itself, in `dvc plots show` and `dvc exp show`.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from importlib import util
from pathlib import Path

import numpy as np
from PIL import Image

from stages import UserError
from stages.common.files import fingerprint, write_json

PROJECT = "oneword"


@dataclass(frozen=True)
class TrackedRun:
    """The id of a run and its last step. It is found by the content of an out that belongs to it."""

    id: str
    step: int

    def remember(self, folder: Path, out: Path) -> None:
        """Record that an out belongs to this run."""
        write_json(_record(folder, out), asdict(self))


def _record(folder: Path, out: Path) -> Path:
    return folder / "tracked" / f"{fingerprint(out)}.json"


def publish(
    names: list[str],
    folder: Path,
    out: Path,
    *,
    metrics: dict[str, float | str] | None = None,
    grid: Path | None = None,
) -> TrackedRun | None:
    """Add metrics and the grid to the run that `out` belongs to, and return it; None if it was not tracked."""
    record = _record(folder, out)
    if not {"tensorboard", "wandb"} & {*names} or not record.is_file():
        return None
    check_installed(names)
    run = TrackedRun(**json.loads(record.read_text()))
    if "wandb" in names:
        import wandb

        with wandb.init(project=PROJECT, **wandb_options(folder, run.id)) as tracked:
            tracked.summary.update(metrics or {})
            if grid:
                tracked.log({"grid": wandb.Image(str(grid))}, step=run.step)
    if "tensorboard" in names:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(tensorboard_folder(folder, run.id) / PROJECT) as writer:
            for name, value in (metrics or {}).items():
                add = writer.add_text if isinstance(value, str) else writer.add_scalar
                add(f"metrics/{name}", value, run.step)
            if grid:
                writer.add_image("grid", np.asarray(Image.open(grid)), run.step, dataformats="HWC")
    return run


def check_installed(names: list[str]) -> None:
    """Raise UserError for a tracker that is not installed."""
    for name in names:
        if util.find_spec(name) is None:
            raise UserError(f'`runtime.trackers` has {name}, which is not installed; run `pip install -e ".[{name}]"`.')


def tensorboard_folder(folder: Path, run: str) -> Path:
    """Return the folder of the run's event files."""
    return folder / "tensorboard" / run


def wandb_options(folder: Path, run: str) -> dict:
    """Return the options of `wandb.init`; it is silent, since it would print twenty lines, and records no terminal."""
    settings = {"silent": True, "console": "off"}
    return {"id": run, "resume": "allow", "dir": str(folder), "settings": settings} | _wandb_mode()


def _wandb_mode() -> dict[str, str]:
    """Return offline mode if there is no API key, so that a run never waits for a login; else leave it to wandb."""
    if "WANDB_MODE" in os.environ or os.environ.get("WANDB_API_KEY"):
        return {}
    netrc = Path.home() / ".netrc"
    with contextlib.suppress(OSError):
        if "api.wandb.ai" in netrc.read_text():
            return {}
    return {"mode": "offline"}
