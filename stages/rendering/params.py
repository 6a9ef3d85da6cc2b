"""The `render` section: prompts, seeds and sampling settings."""

import re
from itertools import compress, product
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationInfo, field_validator, model_validator

from stages.common.params import Line, Section, Text

Steps = Annotated[int, Field(gt=0, le=1000)]
Guidance = Annotated[float, Field(ge=0, le=1000)]


class Setting(NamedTuple):
    """The steps and the guidance scale of an image; `name` says what differs if the params list several."""

    steps: int
    guidance_scale: float
    name: str = ""


def _check_name(name: str, use: str) -> None:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"the name {name!r} becomes a {use}: use letters, digits, - and _ only")
    if len(name.encode()) > 100:
        raise ValueError(f"the name {name[:20]!r}... becomes a {use}: use at most 100 bytes")


class Compare(Section):
    """Another text-to-image model."""

    model: Line = Field(description="A folder in diffusers' layout, or a repository id on the Hugging Face hub.")
    revision: Line | None = Field(None, description="Branch, tag or commit on the hub; null: main.")
    variant: Line | None = Field(None, description="Variant of the weight files, such as fp16; null: the plain files.")
    prompts: Literal["same"] | dict[str, Text] = Field(
        "same",
        description="same: `render.prompts`; or other texts for some of them, by name. {} stands for `filter.class`.",
    )
    label: Line | None = Field(None, description="Title of the column; null: the name of the model.")

    @property
    def title(self) -> str:
        return self.label or self.model.rstrip("/").rpartition("/")[2]

    @property
    def subject(self) -> str:
        """Return the title as a part of file names."""
        return re.sub(r"[^\w-]+", "-", self.title).strip("-")


class Render(Section):
    """Prompts x (the two tokens of `concept`, `snapshots`, `subjects`, `compare`) x seeds x steps x guidance scales."""

    prompts: dict[str, Text] = Field(
        min_length=1, max_length=1000, description="Prompts by name; {} stands for the token."
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(
        min_length=1, max_length=1000, description="One image each; both tokens start from the same noise."
    )
    steps: Steps | Annotated[list[Steps], Field(min_length=1, max_length=100)] = Field(
        50, description="Denoising steps; of a list, every number has its own row of the grid for every prompt."
    )
    guidance_scale: Guidance | Annotated[list[Guidance], Field(min_length=1, max_length=100)] = Field(
        7.5, description="Classifier-free guidance (Ho and Salimans 2022); 1: none. A list adds rows, as for steps."
    )
    scheduler: Literal["ddim", "ddpm", "dpm++", "euler", "euler_a", "lms", "pndm", "unipc"] | None = Field(
        None, description="Scheduler of diffusers; null: the base model's own, the only one of Stable Diffusion 3."
    )
    negative_prompt: Text = Field("", description="What the images should not show.")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto",
        description="Data type of the model; auto: fp16 on an NVIDIA GPU (bf16 if the model's attention overflows in "
        "fp16, for Stable Diffusion 3, and for `compare`), else fp32.",
    )
    subjects: dict[str, Text] = Field(
        default_factory=dict,
        description="More columns by name: plain text such as Charizard, or the path of an embedding, such as "
        "data/embedding/snapshots/step-000500.safetensors.",
    )
    snapshots: NonNegativeInt = Field(
        0,
        le=100,
        description="Number of columns with snapshots of the training, at equal distances up to the last one; all of "
        "them if fewer were saved (`train.snapshot_every`). `evaluate` measures each; 0: none.",
    )
    compare: list[Compare] = Field(
        default_factory=list,
        max_length=100,
        description="More columns by other models, such as Stable Diffusion XL or 3.5, with their own scheduler and "
        "`filter.class` in plain text.",
    )
    long_prompts: Literal["cut", "chunk"] = Field(
        "cut",
        description="What happens to a prompt that is longer than the text encoder's window (75 tokens): cut off with "
        "a warning, or encoded in chunks whose embeddings are concatenated, as the web UIs do (not for Stable "
        "Diffusion 3).",
    )
    height: PositiveInt | None = Field(None, multiple_of=8, le=4096, description="In pixels; null: the model's own.")
    width: PositiveInt | None = Field(None, multiple_of=8, le=4096, description="In pixels; null: the model's own.")

    def settings(self) -> list[Setting]:
        """Return every combination of `steps` and `guidance_scale`."""
        lists = [value if isinstance(value, list) else [value] for value in (self.steps, self.guidance_scale)]
        named = [isinstance(value, list) for value in (self.steps, self.guidance_scale)]
        return [
            Setting(steps, scale, ", ".join(compress([f"steps {steps}", f"guidance {scale:g}"], named)))
            for steps, scale in product(*lists)
        ]

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

    @field_validator("seeds", "steps", "guidance_scale")
    @classmethod
    def _check_list(cls, values: int | float | list, info: ValidationInfo) -> int | float | list:
        if isinstance(values, list) and len(set(values)) != len(values):
            raise ValueError(f"a {info.field_name.removesuffix('s').replace('_', ' ')} is listed twice")
        return values

    @model_validator(mode="after")
    def _check_columns(self) -> "Render":
        subjects = ["word", "initializer", *self.subjects]
        for other in self.compare:
            _check_name(other.subject, "file name")
            if other.subject in subjects:
                raise ValueError(f"two columns are called {other.subject!r}; set `label` in `render.compare`")
            subjects.append(other.subject)
            if other.prompts != "same" and (lost := sorted(other.prompts.keys() - self.prompts.keys())):
                raise ValueError(f"compare has a prompt {lost[0]!r}, but `render.prompts` has no row of that name")
        if self.snapshots and (taken := [name for name in subjects if re.fullmatch(r"step-\d+", name)]):
            raise ValueError(f"the name {taken[0]!r} stands for a snapshot; choose another")
        return self
