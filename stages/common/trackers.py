"""Send curves and images to the trackers of accelerate: dvclive, wandb, or none."""

import contextlib
import os
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from PIL import Image

PROJECT = "oneword"


class Trackers:
    """The trackers of `runtime.trackers` as one object; without trackers its methods do nothing."""

    def __init__(self, accelerator: Accelerator, params: dict, folder: Path, run: str, resumed: bool) -> None:
        self._accelerator = accelerator
        # The pipeline declares its own metrics and plots, so dvclive writes no dvc.yaml and creates no experiment.
        dvclive = {
            "dir": str(folder / "dvclive"),
            "dvcyaml": None,
            "save_dvc_exp": False,
            "resume": resumed,
            "report": None,
        }
        wandb = {"id": run, "resume": "allow", "dir": str(folder)} | _wandb_mode()
        accelerator.init_trackers(PROJECT, config=_flatten(params), init_kwargs={"dvclive": dvclive, "wandb": wandb})

    def log(self, values: dict[str, float], step: int) -> None:
        """Log scalars of a step."""
        self._accelerator.log(values, step=step)

    def image(self, name: str, image: Image.Image, step: int) -> None:
        """Log an image of a step."""
        for tracker in self._accelerator.trackers:
            if tracker.name == "wandb":
                tracker.log_images({name: [image]}, step=step)
            elif tracker.name == "dvclive":
                tracker.tracker.log_image(f"{name}-{step:06d}.png", np.asarray(image))

    def close(self) -> None:
        """Flush the trackers and end the process group of `accelerate`: no process can communicate afterwards."""
        with contextlib.suppress(BrokenPipeError):
            self._accelerator.end_training()


def _wandb_mode() -> dict[str, str]:
    """Return offline mode if there is no API key, so that a run never waits for a login; else leave it to wandb."""
    if "WANDB_MODE" in os.environ or os.environ.get("WANDB_API_KEY"):
        return {}
    netrc = Path.home() / ".netrc"
    with contextlib.suppress(OSError):
        if "api.wandb.ai" in netrc.read_text():
            return {}
    return {"mode": "offline"}


def _flatten(params: dict, prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return nested params as dotted names with scalar values."""
    flat = {}
    for key, value in params.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str | int | float | bool) else str(value)
    return flat
