"""Where curves and pictures go while a stage runs: accelerate's trackers, always an object, sometimes of none."""

import contextlib
import os
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from PIL import Image

PROJECT = "oneword"


class Trackers:
    """`runtime.trackers` => one object with `log`, `picture` and `finish`; without trackers they do nothing."""

    def __init__(self, accelerator: Accelerator, params: dict, folder: Path, run: str, resumed: bool) -> None:
        self._accelerator, self._folder = accelerator, folder
        # DVC writes the pipeline's own metrics and plots: dvclive adds no files of DVC's, and makes no experiment.
        live = {
            "dir": str(folder / "dvclive"),
            "dvcyaml": None,
            "save_dvc_exp": False,
            "resume": resumed,
            "report": None,
        }
        wandb = {"id": run, "resume": "allow", "dir": str(folder), "mode": _wandb_mode()}
        accelerator.init_trackers(
            PROJECT, config=_flat(params), init_kwargs={"dvclive": live, "wandb": {k: v for k, v in wandb.items() if v}}
        )

    def log(self, values: dict[str, float], step: int) -> None:
        """Numbers of a step."""
        self._accelerator.log(values, step=step)

    def picture(self, name: str, picture: Image.Image, step: int) -> None:
        """A picture of a step, by those trackers that keep pictures."""
        for tracker in self._accelerator.trackers:
            if tracker.name == "wandb":
                tracker.log_images({name: [picture]}, step=step)
            elif tracker.name == "dvclive":
                tracker.tracker.log_image(f"{name}-{step:06d}.png", np.asarray(picture))

    def finish(self) -> None:
        """Files are whole, connections closed."""
        with contextlib.suppress(BrokenPipeError):
            self._accelerator.end_training()


def _wandb_mode() -> str | None:
    """Offline without a key, so that nobody is asked for one in the middle of a run; else as the environment says."""
    if "WANDB_MODE" in os.environ:
        return None
    key = os.environ.get("WANDB_API_KEY") or "api.wandb.ai" in _text(Path.home() / ".netrc")
    return None if key else "offline"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _flat(params: dict, prefix: str = "") -> dict[str, str | int | float | bool]:
    """Sections of sections => dotted names and plain values."""
    flat = {}
    for key, value in params.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str | int | float | bool) else str(value)
    return flat
