"""Send curves, images and metrics to the trackers of accelerate: dvclive, TensorBoard, wandb, or none.

Later stages add their results to the run that training began in wandb and TensorBoard. dvclive needs no addition: DVC
shows the grid and the metrics itself, in `dvc plots show` and `dvc exp show`.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from importlib import util
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from PIL import Image

from stages import UserError
from stages.common.files import write_json
from stages.common.hashing import fingerprint

PROJECT = "oneword"


def accelerator_options(names: list[str], folder: Path, run: str) -> dict[str, list[str] | str | None]:
    """Return the options of an Accelerator with the trackers `names`; it would leave out one that is not installed."""
    check_installed(names)
    return {"log_with": list(names) or None, "project_dir": str(tensorboard_folder(folder, run))}


class Trackers:
    """The trackers of `runtime.trackers` as one object; without trackers its methods do nothing."""

    def __init__(self, accelerator: Accelerator, params: dict, folder: Path, run: str, resumed: int | None) -> None:
        """Begin the run, or continue it at the step `resumed`."""
        self._accelerator = accelerator
        # The pipeline declares its own metrics and plots, so dvclive writes no dvc.yaml and creates no experiment.
        dvclive = {
            "dir": str(folder / "dvclive"),
            "dvcyaml": None,
            "save_dvc_exp": False,
            "resume": resumed is not None,
            "report": None,
        }
        tensorboard = {"purge_step": 0 if resumed is None else resumed + 1}  # later steps are logged again
        options = {"dvclive": dvclive, "tensorboard": tensorboard, "wandb": wandb_options(folder, run)}
        accelerator.init_trackers(PROJECT, config=_flatten(params), init_kwargs=options)

    def locations(self) -> list[str]:
        """Return where the run of wandb is."""
        runs = [tracker.tracker for tracker in self._accelerator.trackers if tracker.name == "wandb"]
        return [
            f"`wandb sync {Path(run.dir).parents[1]}/offline-run-*-{run.id}` uploads the run"
            if run.offline
            else run.url
            for run in runs
        ]

    def log(self, values: dict[str, float], step: int) -> None:
        """Log scalars of a step."""
        self._accelerator.log(values, step=step)

    def image(self, name: str, image: Image.Image, step: int) -> None:
        """Log an image of a step."""
        for tracker in self._accelerator.trackers:
            if tracker.name == "wandb":
                tracker.log_images({name: [image]}, step=step)
            elif tracker.name == "tensorboard":
                tracker.log_images({name: np.asarray(image)[None]}, step=step, dataformats="NHWC")
            elif tracker.name == "dvclive":
                tracker.tracker.log_image(f"{name}-{step:06d}.png", np.asarray(image))

    def metrics(self, values: dict[str, float | str]) -> None:
        """Log the metrics of the finished run."""
        for tracker in self._accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log({f"metrics/{name}": value for name, value in values.items()}, step=0)
            else:
                tracker.tracker.summary.update(values)

    def close(self) -> None:
        """Flush the trackers and end the process group of `accelerate`: no process can communicate afterwards."""
        with contextlib.suppress(BrokenPipeError):
            self._accelerator.end_training()


def _flatten(params: dict, prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return nested params as trackers accept them: dotted names with scalar values."""
    flat = {}
    for key, value in params.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str | int | float | bool) else str(value)
    return flat


@dataclass(frozen=True)
class TrackedRun:
    """The id of a run and its last step. It is found by the content of an out that belongs to it."""

    id: str
    step: int

    def remember(self, folder: Path, out: Path) -> None:
        """Record that an out belongs to this run of the trackers."""
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
    """Return the folder of a run's TensorBoard event files."""
    return folder / "tensorboard" / run


def wandb_options(folder: Path, run: str) -> dict:
    """Return the options of `wandb.init`; it is silent, since it would print twenty lines, and records no terminal."""
    settings = {"silent": True, "console": "off"}
    return {"id": run, "resume": "allow", "dir": str(folder), "settings": settings} | _wandb_mode()


def _wandb_mode() -> dict[str, str]:
    """Return wandb's offline mode if there is no API key, so that no run waits for a login; else nothing."""
    if "WANDB_MODE" in os.environ or os.environ.get("WANDB_API_KEY"):
        return {}
    netrc = Path.home() / ".netrc"
    with contextlib.suppress(OSError):
        if "api.wandb.ai" in netrc.read_text():
            return {}
    return {"mode": "offline"}
