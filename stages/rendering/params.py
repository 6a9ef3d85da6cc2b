"""The `render` section: prompts, seeds and sampling settings."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator

from stages.common.schema import Section, Text


def _check_name(name: str, use: str) -> None:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"the name {name!r} becomes a {use}: use letters, digits, - and _ only")
    if len(name.encode()) > 100:
        raise ValueError(f"the name {name[:20]!r}... becomes a {use}: use at most 100 bytes")


class Render(Section):
    """Prompts x (placeholder token, initializer token, `subjects`) x seeds."""

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
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto",
        description="Data type of the model; auto: fp16 on an NVIDIA GPU (bf16 if the model's attention overflows in "
        "fp16), else fp32.",
    )
    subjects: dict[str, Text] = Field(
        default_factory=dict,
        description="More columns by name: plain text such as Charizard, or the path of an embedding, such as "
        "data/embedding/snapshots/step-000500.safetensors.",
    )
    long_prompts: Literal["cut", "chunk"] = Field(
        "cut",
        description="What happens to a prompt that is longer than the text encoder's window (75 tokens): cut off with "
        "a warning, or encoded in chunks whose embeddings are concatenated, as the web UIs do.",
    )
    height: PositiveInt | None = Field(None, multiple_of=8, le=4096, description="In pixels; null: the model's own.")
    width: PositiveInt | None = Field(None, multiple_of=8, le=4096, description="In pixels; null: the model's own.")

    @field_validator("prompts")
    @classmethod
    def _check_prompts(cls, prompts: dict[str, str]) -> dict[str, str]:
        for name, prompt in prompts.items():
            if "{}" not in prompt:
                raise ValueError(f"prompt {name!r} has no {{}}, which stands for the token")
            _check_name(name, "folder")
        return prompts

    @field_validator("subjects")
    @classmethod
    def _check_subjects(cls, subjects: dict[str, str]) -> dict[str, str]:
        for name in subjects:
            _check_name(name, "file name")
            if name in ("word", "initializer"):
                raise ValueError(f"the name {name!r} stands for a token of `concept`; choose another")
        return subjects

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is listed twice")
        return seeds
