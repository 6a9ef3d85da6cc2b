"""The `render` section: prompts, seeds and sampling settings."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator

from stages.common.schema import Section, Text


class Render(Section):
    """Prompts x (placeholder token, initializer token) x seeds."""

    prompts: dict[str, Text] = Field(
        min_length=1, max_length=1000, description="Prompts by name; {} stands for the token."
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(
        min_length=1, max_length=1000, description="One image each; both tokens start from the same noise."
    )
    steps: PositiveInt = Field(50, le=1000, description="Denoising steps.")
    guidance_scale: NonNegativeFloat = Field(
        7.5, le=1000, description="Classifier-free guidance (Ho and Salimans 2022); 1: none."
    )
    scheduler: Literal["ddim", "ddpm", "dpm++", "euler", "euler_a", "lms", "pndm", "unipc"] | None = Field(
        None, description="Scheduler of diffusers; null: the base model's own."
    )
    negative_prompt: Text = Field("", description="What the images should not show.")
    precision: Literal["fp32", "fp16", "bf16"] = Field(
        "fp32", description="Data type of the model; fp16 halves the memory that a GPU needs."
    )
    height: PositiveInt | None = Field(None, multiple_of=8, le=4096, description="In pixels; null: the model's own.")
    width: PositiveInt | None = Field(None, multiple_of=8, le=4096, description="In pixels; null: the model's own.")

    @field_validator("prompts")
    @classmethod
    def _check_prompts(cls, prompts: dict[str, str]) -> dict[str, str]:
        for name, prompt in prompts.items():
            if "{}" not in prompt:
                raise ValueError(f"prompt {name!r} has no {{}}, which stands for the token")
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"the name {name!r} becomes a folder: use letters, digits, - and _ only")
            if len(name.encode()) > 100:
                raise ValueError(f"the name {name[:20]!r}... becomes a folder: use at most 100 bytes")
        return prompts

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is listed twice")
        return seeds
