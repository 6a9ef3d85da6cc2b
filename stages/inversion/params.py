"""The `train` section: how the word is learnt."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator


class Train(BaseModel):
    """The recipe; `batch_size` is the global one, whatever the micro-batch and the number of processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: NonNegativeInt = Field(0, description="Seed of everything drawn at random.")
    steps: PositiveInt = Field(2000, description="Optimiser steps.")
    batch_size: PositiveInt = Field(4, description="Samples a step, over all processes and accumulation.")
    learning_rate: PositiveFloat = Field(5e-4, description="Of AdamW, before scaling.")
    scale_learning_rate: bool = Field(
        False,
        description="Multiply by batch_size, as the script's --scale_lr does: 1e-2 at batch 4 is 4e-2 in effect.",
    )
    lr_scheduler: Literal[
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "piecewise_constant",
    ] = Field("constant", description="Shape of the learning rate over the steps, as in diffusers' get_scheduler.")
    lr_warmup_steps: NonNegativeInt = Field(0, description="Steps in which the learning rate rises from 0.")
    mixed_precision: Literal["no", "fp16", "bf16"] = Field(
        "no", description="Precision of the frozen model's arithmetic."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "Train":
        if self.lr_warmup_steps >= self.steps:
            raise ValueError(f"lr_warmup_steps ({self.lr_warmup_steps}) must be less than steps ({self.steps})")
        return self
