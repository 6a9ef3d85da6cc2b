"""The `model` and `concept` sections."""

from typing import Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from stages.common.params import Line, Section


class Model(Section):
    """The base model. Only safetensors files are loaded."""

    base: Line = Field(
        "starter/model", description="A folder in diffusers' layout, or a repository id on the Hugging Face hub."
    )
    revision: Line | None = Field(
        None, description="Branch, tag or commit on the hub; null: main. Resolved to a commit, which is recorded."
    )
    variant: Line | None = Field(None, description="Variant of the weight files, such as fp16; null: the plain files.")
    t5: Literal["train", "frozen", "none"] = Field(
        "train",
        description="The T5 text encoder of Stable Diffusion 3; other models have none. train: it has vectors of its "
        "own; frozen: it reads the initializer token in place of the placeholder; none: it is not loaded, which saves "
        "9 GiB in bf16.",
    )
    storage_dtype: Literal["fp8"] | None = Field(
        None,
        description="Format in which the weights of the denoiser's and T5's blocks are stored; every layer computes in "
        "the precision of the stage. fp8: half the memory, and other numbers; null: the precision of the stage.",
    )


class Concept(Section):
    """The concept to learn and the tokens that stand for it."""

    placeholder_token: Line = Field(
        description="The new token, as it is written in prompts; must be unknown to the tokenizer."
    )
    initializer_token: Line = Field(
        description="A known token near the concept: the start of the embedding, and what results are compared with."
    )
    initialization: Literal["word", "phrase", "random", "search"] = Field(
        "word",
        description="Start of every vector. word: the embedding of initializer_token, which must be a single token; "
        "phrase: the mean embedding of the tokens of initializer_token; random: drawn from the distribution of all "
        "token embeddings; search: the best of several starts after some steps (train.search_starts).",
    )
    property: Literal["object", "style"] = Field(
        "object", description="What the token names; selects the caption templates."
    )
    vectors: PositiveInt = Field(
        1, le=64, description="Number of embedding vectors; each takes the place of one token in a prompt."
    )

    @field_validator("placeholder_token")
    @classmethod
    def _has_no_spaces(cls, value: str) -> str:
        if any(c.isspace() for c in value):
            raise ValueError("must be one word without spaces, such as <charizard>")
        if value == "__metadata__":
            raise ValueError("is reserved by the safetensors format")
        return value

    @model_validator(mode="after")
    def _tokens_differ(self) -> "Concept":
        if self.placeholder_token.lower() in self.initializer_token.lower():
            raise ValueError(
                f"placeholder_token {self.placeholder_token} is part of initializer_token {self.initializer_token}, so "
                "that prompts with the one would contain the other; choose another, such as <charizard>"
            )
        return self
