"""The `render` section: which pictures are drawn with the word."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, field_validator


class Render(BaseModel):
    """Prompts x (the word, the initializer word) x seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: dict[str, str] = Field(min_length=1, description="Name => prompt; {} is where the word goes.")
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(
        min_length=1, description="A picture for each; both words get the same noise."
    )
    steps: PositiveInt = Field(50, le=1000, description="Denoising steps.")
    guidance_scale: NonNegativeFloat = Field(
        7.5, description="Classifier-free guidance (Ho and Salimans 2022); 1: none."
    )
    scheduler: Literal["ddim", "ddpm", "dpm++", "euler", "euler_a", "lms", "pndm", "unipc"] | None = Field(
        None, description="Sampler; null: the one that the base model names."
    )
    negative_prompt: str = Field("", description="What the pictures should not show.")
    precision: Literal["fp32", "fp16", "bf16"] = Field(
        "fp32", description="Arithmetic of the model; fp16 halves the memory that a GPU needs."
    )
    height: PositiveInt | None = Field(None, multiple_of=8, description="In pixels; null: the model's own.")
    width: PositiveInt | None = Field(None, multiple_of=8, description="In pixels; null: the model's own.")

    @field_validator("prompts")
    @classmethod
    def _has_place(cls, prompts: dict[str, str]) -> dict[str, str]:
        for name, prompt in prompts.items():
            if prompt.count("{}") == 0:
                raise ValueError(f"prompt {name!r} has no {{}}, the place of the word")
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"the name {name!r} becomes a folder: letters, digits, - and _ only")
        return prompts

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is there twice")
        return seeds
