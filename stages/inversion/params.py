"""The `train` section."""

import re
from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from stages.common.params import Section, Text

Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "piecewise_constant"
]  # fmt: skip


class Train(Section):
    """The training recipe. `batch_size` is the global one, for any micro-batch and number of processes."""

    seed: NonNegativeInt = Field(0, lt=2**63, description="Seed of all random numbers.")
    steps: PositiveInt = Field(2000, le=10**6, description="Optimizer steps.")
    batch_size: PositiveInt = Field(4, le=4096, description="Samples per step, over all processes and micro-batches.")
    learning_rate: PositiveFloat = Field(5e-4, le=100, description="Learning rate of AdamW, before scaling.")
    scale_learning_rate: bool = Field(
        False,
        description="Multiply by batch_size, as --scale_lr of diffusers' script does: 1e-2 at batch 4 becomes 4e-2.",
    )
    lr_scheduler: Schedule = Field("constant", description="Learning rate schedule of diffusers' get_scheduler.")
    lr_warmup_steps: NonNegativeInt = Field(0, description="Steps over which the learning rate rises from 0.")
    lr_cycles: PositiveInt = Field(1, le=10**4, description="Restarts of cosine_with_restarts.")
    lr_power: PositiveFloat = Field(1.0, le=100, description="Exponent of polynomial.")
    lr_step_rules: str | None = Field(
        None,
        description="Rules of piecewise_constant, as `1:500,0.1`: the learning rate to step 500, then a tenth of it.",
    )
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="Decay of AdamW's mean of gradients.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="Decay of AdamW's mean of squared gradients.")
    adam_weight_decay: NonNegativeFloat = Field(1e-2, le=100, description="AdamW's weight decay of the vectors.")
    adam_epsilon: PositiveFloat = Field(1e-8, le=1, description="AdamW's epsilon.")
    max_gradient_norm: PositiveFloat | None = Field(
        None, le=10**6, description="Clip the gradient to this norm; null: never, as diffusers' script."
    )
    geometry: Literal["free", "sphere"] = Field(
        "free",
        description="sphere: every vector keeps the mean norm of the token embeddings, so that only its direction is "
        "learned; free: any vector.",
    )
    prior: NonNegativeFloat = Field(
        0.0,
        le=10**6,
        description="Weight of 1 - cosine(vector, initializer token), which is added to the loss: it holds the "
        "embedding near the initializer token.",
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of the moving average of the vectors that is validated and saved; 0: the vectors.",
    )
    search_starts: int = Field(
        4, ge=2, le=64, description="Starts that concept.initialization search compares: initializer, words, random."
    )
    search_words: PositiveInt = Field(
        16, le=10_000, description="Words of the vocabulary whose loss is measured to choose those that are compared."
    )
    search_steps: PositiveInt = Field(
        20,
        le=10**6,
        description="Steps after which the worse half of the starts is dropped; doubled until one is left.",
    )
    min_snr_gamma: PositiveFloat | None = Field(
        None, le=10**6, description="Gamma of min-SNR loss weights (Hang et al. 2023 use 5); null: equal weights."
    )
    mixed_precision: Literal["no", "tf32", "fp16", "bf16"] = Field(
        "no",
        description="Precision of the frozen model (tf32: float32 with TF32 matrix products on a GPU); the vectors are "
        "always float32.",
    )
    flip: bool = Field(True, description="Mirror every sample with probability 0.5, as diffusers' script always does.")
    captions: list[Text] | None = Field(
        None,
        max_length=10_000,
        description="Captions with {} for the placeholder token, instead of the templates of the paper; null: those of "
        "concept.property. A text file beside a training image (00.txt) replaces them for that image, one per line.",
    )
    validation_every: PositiveInt = Field(40, le=10**6, description="Steps between two validations.")
    validation_timesteps: PositiveInt = Field(
        8, le=1000, description="Timesteps, stratified over the schedule, at which validation sees each held-out image."
    )
    early_stopping: Literal["off", "plateau", "dvar"] = Field(
        "off",
        description="plateau: stop when the validation loss has stopped falling; dvar: stop when its variance has "
        "decayed (Voronov et al. 2023). The best embedding is kept in any case.",
    )
    early_stopping_patience: PositiveInt = Field(200, le=10**6, description="Steps that plateau waits for a fall.")
    early_stopping_fall: NonNegativeFloat = Field(
        0.002, le=1, description="Smallest fall of the relative validation loss that resets the patience of plateau."
    )
    early_stopping_window: PositiveInt = Field(310, le=10**6, description="Steps of the window of dvar.")
    early_stopping_threshold: PositiveFloat = Field(
        0.15,
        le=1,
        description="dvar stops when the variance in the window is below this fraction of the variance of all.",
    )
    snapshot_every: NonNegativeInt = Field(500, le=10**6, description="Steps between two saved snapshots; 0: none.")
    progress_every: NonNegativeInt = Field(0, le=10**6, description="Steps between two preview images; 0: none.")
    progress_prompt: Text = Field("a photo of a {}", description="Prompt of the previews, with {} for the token.")

    @field_validator("lr_step_rules")
    @classmethod
    def _are_rules(cls, value: str | None) -> str | None:
        factor = r"\d+(\.\d+)?(e-?\d)?"
        if value and not re.fullmatch(rf"({factor}:\d{{1,7}},)*{factor}", value, re.ASCII):
            raise ValueError("is no list of rules, such as 1:500,0.1")
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> "Train":
        if self.lr_warmup_steps >= self.steps:
            raise ValueError(f"lr_warmup_steps ({self.lr_warmup_steps}) must be less than steps ({self.steps})")
        if self.lr_scheduler == "piecewise_constant" and not self.lr_step_rules:
            raise ValueError("lr_scheduler piecewise_constant needs lr_step_rules, such as 1:500,0.1")
        if any("{}" not in text for text in [*(self.captions or ()), self.progress_prompt]):
            raise ValueError("every one of captions, and progress_prompt, needs {} where the placeholder token belongs")
        if self.captions is not None and not self.captions:
            raise ValueError("captions is empty; write captions, or null for the templates of the paper")
        return self
