"""The `runtime` section: speed and memory, which no stage tracks."""

import os
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from stages.common.params import Section

Auto = Literal["auto"]
Processes = Annotated[int, Field(gt=0, le=1024)]


class Runtime(Section):
    """How results are computed. They stay the same up to rounding, so a change here reruns no stage."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Device of the models; auto: cuda or cpu."
    )
    micro_batch: Auto | Annotated[int, Field(gt=0, le=4096)] = Field(
        "auto",
        description="Samples computed at once; auto: the whole batch, halved while memory runs out. Renders: up to 16 "
        "at once on a GPU, one on a CPU.",
    )
    gradient_checkpointing: Auto | bool = Field(
        "auto", description="Recompute activations instead of storing them; auto: only if nothing else fits."
    )
    offload: Auto | bool = Field(
        "auto",
        description="Keep the weights of the text encoders' and the denoiser's blocks in host memory, and copy each "
        "layer to the GPU when it is used; auto: those for which the GPU has no room.",
    )
    attention: Literal["auto", "sdpa", "xformers"] = Field(
        "auto",
        description="Attention kernels; auto: the fused deterministic ones on an NVIDIA GPU, else PyTorch's SDPA.",
    )
    fused_kernels: Auto | bool = Field(
        "auto",
        description="Triton kernels for norms, residual sums, activations and attention, instead of `compile`; "
        "auto: on an NVIDIA GPU.",
    )
    compile: Literal["auto", "off", "regional", "full"] = Field(
        "auto", description="torch.compile of the denoiser; auto: if the run is long enough to pay for the warm-up."
    )
    workers: Auto | Processes = Field("auto", description="Processes that measure images; auto: one per core.")
    threads: Auto | Processes = Field(
        "auto",
        description="CPU threads of a process with a model; auto: the cores, divided among the processes.",
    )
    checkpoint_seconds: NonNegativeFloat = Field(
        5.0, le=10**6, description="Least time between two checkpoints of training, in seconds; 0: one at every step."
    )
    memory_gib: PositiveFloat | None = Field(
        None, le=10**4, description="Limit of the GPU memory, in GiB; null: all of it."
    )
    deterministic: bool = Field(True, description="Only kernels that give the same bytes twice on the same device.")
    trackers: list[Literal["dvclive", "tensorboard", "wandb"]] = Field(
        default_factory=lambda: ["dvclive"],
        description="Experiment trackers, in .scratch/: curves, previews and metrics of train; wandb and TensorBoard "
        "also get the grid and the metrics of evaluate, which DVC shows itself. wandb is offline without an API key, "
        "unless WANDB_MODE says otherwise.",
    )

    @property
    def cores(self) -> int:
        """Cores that this process may use, or all of them if the system does not say."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
