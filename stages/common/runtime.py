"""The `runtime` section: what only changes speed or memory, and what no stage tracks."""

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

Auto = Literal["auto"]


class Runtime(BaseModel):
    """How the same result is computed; a change here never reruns a stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where models run; auto: cuda if there is one."
    )
    micro_batch: Auto | PositiveInt = Field(
        "auto",
        description="Samples that go through the model at once; auto: the most that fit, halved on out-of-memory.",
    )
    gradient_checkpointing: Auto | bool = Field(
        "auto", description="Recompute activations instead of keeping them; auto: only when nothing else fits."
    )
    attention: Literal["auto", "sdpa", "xformers"] = Field(
        "auto",
        description="Attention kernels; auto: PyTorch's SDPA, or fused ones where they are exact and faster.",
    )
    fused_kernels: Auto | bool = Field(
        "auto",
        description="Norms, sums, gates and exact attention by kernels of this project, in place of `compile`; "
        "auto: on an NVIDIA GPU.",
    )
    compile: Literal["auto", "off", "regional", "full"] = Field(
        "auto", description="torch.compile of the denoiser; auto: when the steps to come pay for the warm-up."
    )
    workers: Auto | PositiveInt = Field("auto", description="Processes that read pictures; auto: one a core.")
    threads: Auto | PositiveInt = Field(
        "auto",
        description="CPU threads of a process with a model; auto: the cores, divided among those that train.",
    )
    checkpoint_seconds: NonNegativeFloat = Field(
        5.0, description="Least time between two checkpoints of training, in seconds; 0: one at every step."
    )
    memory_gib: PositiveFloat | None = Field(
        None, description="Most accelerator memory to use, in GiB; null: all of it."
    )
    deterministic: bool = Field(True, description="Only kernels that give the same bytes twice on the same device.")
    trackers: list[Literal["dvclive", "wandb"]] = Field(
        default_factory=lambda: ["dvclive"],
        description="Where curves are sent while training; wandb is offline without a key.",
    )

    @property
    def cores(self) -> int:
        """Cores that this process may use; where the system does not say, all there are."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
