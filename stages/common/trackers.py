"""Send curves, images and metrics to the trackers of accelerate: dvclive, TensorBoard, wandb, or none."""

import contextlib
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from PIL import Image

from stages.common.publish import PROJECT, check_installed, tensorboard_folder, wandb_options


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
    """Return nested params as dotted names with scalar values."""
    flat = {}
    for key, value in params.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str | int | float | bool) else str(value)
    return flat
