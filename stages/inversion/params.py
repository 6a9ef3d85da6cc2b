"""The `train` section: how the word is learnt."""

from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Scheduler = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "piecewise_constant",
]


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
    lr_scheduler: Scheduler = Field(
        "constant", description="Shape of the learning rate over the steps, as in diffusers' get_scheduler."
    )
    lr_warmup_steps: NonNegativeInt = Field(0, description="Steps in which the learning rate rises from 0.")
    lr_cycles: PositiveInt = Field(1, description="Restarts of cosine_with_restarts.")
    lr_power: PositiveFloat = Field(1.0, description="Exponent of polynomial.")
    lr_step_rules: str | None = Field(
        None,
        description="Rules of piecewise_constant, as `1:500,0.1`: 1 times the learning rate up to step 500, then 0.1.",
    )
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="Decay of AdamW's mean of gradients.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="Decay of AdamW's mean of squared gradients.")
    adam_weight_decay: NonNegativeFloat = Field(
        1e-2, description="AdamW's decay of the new vectors, a step and unit of rate."
    )
    adam_epsilon: PositiveFloat = Field(1e-8, description="AdamW's addend to the root of the squared gradients.")
    max_gradient_norm: PositiveFloat | None = Field(
        None, description="Longer gradients are cut to this norm; null: never, as the script does."
    )
    max_vector_norm: PositiveFloat | None = Field(
        None,
        description="After a step, longer vectors are cut to so many mean norms of the known words; null: never.",
    )
    min_snr_gamma: PositiveFloat | None = Field(
        None, description="Clamp of min-SNR loss weights (Hang et al. 2023 take 5); null: all timesteps weigh the same."
    )
    mixed_precision: Literal["no", "tf32", "fp16", "bf16"] = Field(
        "no",
        description="Precision of the frozen model's arithmetic (tf32: float32, with a GPU's faster and coarser "
        "products); the vectors are always float32.",
    )
    flip: bool = Field(True, description="Mirror every other picture at random, as the script always does.")
    captions: list[str] | None = Field(
        None,
        description="Sentences with {} for the word, in place of the paper's templates; null: those of the property. "
        "A text file beside a training picture (00.txt) replaces them for that picture, a sentence a line.",
    )
    validation_every: PositiveInt = Field(40, description="Steps between two evaluations of the fixed objective.")
    validation_timesteps: PositiveInt = Field(
        8, description="Timesteps, stratified over the schedule, at which the objective sees each held-out picture."
    )
    early_stopping: Literal["off", "plateau", "dvar"] = Field(
        "off",
        description="Stop when the objective has not fallen for a while (plateau), or when its variance has died down "
        "(dvar: Voronov et al. 2023); the best word is kept in any case.",
    )
    early_stopping_patience: PositiveInt = Field(200, description="Steps that plateau waits for a fall.")
    early_stopping_fall: NonNegativeFloat = Field(
        0.002, description="Least fall of the relative objective that plateau counts as one."
    )
    early_stopping_window: PositiveInt = Field(310, description="Steps whose variance dvar compares with that of all.")
    early_stopping_threshold: PositiveFloat = Field(0.15, description="Ratio of variances below which dvar stops.")
    snapshot_every: NonNegativeInt = Field(500, description="Steps between two saved snapshots of the word; 0: none.")
    progress_every: NonNegativeInt = Field(
        0, description="Steps between two pictures drawn with the word so far, for the report and trackers; 0: none."
    )
    progress_prompt: str = Field("a photo of a {}", description="What is drawn then, with {} for the word.")

    @model_validator(mode="after")
    def _makes_sense(self) -> "Train":
        if self.lr_warmup_steps >= self.steps:
            raise ValueError(f"lr_warmup_steps ({self.lr_warmup_steps}) must be less than steps ({self.steps})")
        if self.lr_scheduler == "piecewise_constant" and not self.lr_step_rules:
            raise ValueError("lr_scheduler piecewise_constant needs lr_step_rules, such as 1:500,0.1")
        if any("{}" not in caption for caption in self.captions or ()):
            raise ValueError("every one of captions needs {} where the word stands")
        if self.captions is not None and not self.captions:
            raise ValueError("captions is empty; write sentences, or null for the templates of the paper")
        return self
