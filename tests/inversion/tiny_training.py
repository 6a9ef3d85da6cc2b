"""A training in this process: drawn images, the tiny model, and callbacks that record their calls."""

import copy
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image

from stages.common.runtime import Runtime
from stages.inversion.dataset import curated_images
from stages.inversion.params import Train
from stages.inversion.state import TrainState
from stages.inversion.train import Result, train
from stages.models.backbone import Backbone
from stages.models.loading import open_backbone
from stages.models.params import Concept, Model
from stages.models.stable_diffusion import StableDiffusion

CONCEPT = Concept(placeholder_token="<critter>", initializer_token="dragon")
RECIPE = {"steps": 6, "batch_size": 4, "learning_rate": 2e-2, "validation_every": 2, "validation_timesteps": 2}


def open_tiny(folder: Path, concept: Concept = CONCEPT, dtype: torch.dtype = torch.float32) -> StableDiffusion:
    """Open the tiny model on the CPU, with one thread. It is loaded once; every call returns a copy."""
    torch.set_num_threads(1)
    return copy.deepcopy(open_once(Model(base=str(folder)), concept, dtype))


@functools.cache
def open_once(model: Model, concept: Concept, dtype: torch.dtype) -> Backbone:
    return open_backbone(model, concept, "cpu", dtype)


def draw_curated(folder: Path, train: int = 3, holdout: int = 2, side: int = 32) -> Path:
    """Write a folder as `curate` does."""
    random, index = np.random.default_rng(0), {"class": "Critter"}
    for part, count in (("train", train), ("holdout", holdout)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        index[part] = [{"file": f"{part}/{i:02d}.png"} for i in range(count)]
        for row in index[part]:
            coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(folder / row["file"])
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@dataclass
class RecordingCallbacks:
    """Callbacks that copy the state before every step; a stop is requested when step `stop_at` is computed."""

    stop_at: int | None = None
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    previews: dict[int, np.ndarray] = field(default_factory=dict)
    saved: list[TrainState] = field(default_factory=list)
    ended: list[TrainState] = field(default_factory=list)

    def save(self, state: TrainState) -> None:
        self.saved.append(copy.deepcopy(state))

    save_if_due = save

    def end(self, state: TrainState) -> None:
        self.ended.append(copy.deepcopy(state))

    def log(self, step: int, **values: float) -> None:
        self.logged.append((step, values))

    def flush(self) -> None:
        pass

    def preview(self, pixels: np.ndarray, step: int) -> None:
        self.previews[step] = pixels

    def stop_requested(self) -> bool:
        return self.stop_at is not None and bool(self.saved) and self.saved[-1].step >= self.stop_at


def run(
    backbone: StableDiffusion,
    curated: Path,
    *,
    concept: Concept = CONCEPT,
    micro_batch: int | str = "auto",
    resumed: TrainState | None = None,
    callbacks: RecordingCallbacks | None = None,
    **recipe: object,
) -> Result:
    """Train on the CPU."""
    AcceleratorState._reset_state(reset_partial_state=True)  # a test before may have used a GPU
    return train(
        backbone,
        concept,
        Train(**{**RECIPE, **recipe}),
        Runtime(micro_batch=micro_batch),
        curated_images(curated),
        accelerator=Accelerator(cpu=True),
        callbacks=callbacks or RecordingCallbacks(),
        resumed=copy.deepcopy(resumed),
    )


def assert_same(one: TrainState, other: TrainState, ignore: tuple[str, ...] = ()) -> None:
    """Compare two states bit for bit."""
    for name in (f.name for f in fields(TrainState) if f.name not in ignore):
        a, b = getattr(one, name), getattr(other, name)
        pairs = zip(a, b, strict=True) if isinstance(a, list) else [(a, b)]
        assert all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs), name


def patch_predict(backbone: StableDiffusion, change: Callable[[torch.Tensor, int, bool], torch.Tensor]) -> None:
    """Let `change` alter predictions, given the number of earlier calls and whether they are with gradient."""
    predict, calls = backbone.predict, {True: 0, False: 0}

    def patched(*inputs: torch.Tensor) -> torch.Tensor:
        predicted = predict(*inputs)
        with_grad = predicted.requires_grad
        calls[with_grad] += 1
        return change(predicted, calls[with_grad] - 1, with_grad)

    backbone.predict = patched
