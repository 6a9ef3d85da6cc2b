"""A small world for the trainer: pictures, the tiny model, surroundings that keep what they are told, one process."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stages.inversion.callbacks import Surroundings
from stages.inversion.checkpoint import State
from stages.inversion.dataset import examples
from stages.inversion.diffusion_loss import Speed
from stages.inversion.params import Train
from stages.inversion.train import teach
from stages.models.backbone import open_backbone
from stages.models.params import Concept, Model
from stages.models.stable_diffusion import StableDiffusion

CONCEPT = Concept(placeholder_token="<critter>", initializer_token="dragon")
BRISK = {"steps": 6, "batch_size": 4, "learning_rate": 2e-2, "validation_every": 2, "validation_timesteps": 2}


def opened(folder: Path, concept: Concept = CONCEPT, dtype: torch.dtype = torch.float32) -> StableDiffusion:
    """=> the tiny model on the CPU, with one thread."""
    torch.set_num_threads(1)
    return open_backbone(Model(base=str(folder)), concept, "cpu", dtype)


def draw(folder: Path, train: int = 3, holdout: int = 2, side: int = 32) -> Path:
    """=> a folder as `curate` leaves it."""
    random, index = np.random.default_rng(0), {}
    for part, count in (("train", train), ("holdout", holdout)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        index[part] = [{"file": f"{part}/{i:02d}.png"} for i in range(count)]
        for row in index[part]:
            coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(folder / row["file"])
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@dataclass
class Solo:
    """A crew of one."""

    process_index: int = 0
    num_processes: int = 1
    is_main_process: bool = True

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        return tensor

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


@dataclass
class Notebook:
    """Surroundings that write everything down; `stop_at` asks the run to stop at that step."""

    stop_at: int | None = None
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    pictures: dict[int, np.ndarray] = field(default_factory=dict)
    saved: list[State] = field(default_factory=list)
    asked: int = 0

    def surroundings(self) -> Surroundings:
        return Surroundings(
            due=lambda: False,
            interrupted=self._interrupted,
            save=self.saved.append,
            log=lambda values, step: self.logged.append((step, values)),
            picture=lambda pixels, step: self.pictures.update({step: pixels}),
            bar=lambda step, text: None,
        )

    def _interrupted(self) -> bool:
        self.asked += 1
        return self.stop_at is not None and self.asked > self.stop_at


def run(
    backbone: StableDiffusion,
    curated: Path,
    *,
    concept: Concept = CONCEPT,
    micro_batch: int | None = None,
    ahead: int = 0,
    found: State | None = None,
    notebook: Notebook | None = None,
    change: Callable[[StableDiffusion], None] = lambda backbone: None,
    **recipe: object,
) -> State:
    """A whole training in this process; `change` may meddle with the model after it was opened."""
    change(backbone)
    return teach(
        backbone,
        concept,
        Train(**{**BRISK, **recipe}),
        examples(curated),
        how=Speed(micro_batch=micro_batch, ahead=ahead),
        crew=Solo(),
        found=found,
        around=(notebook or Notebook()).surroundings(),
    )
