"""The `model` and `concept` sections: which base model, and which word it is to learn."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator


class Model(BaseModel):
    """The base model; only its safetensors files are ever read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = Field(
        "starter/model", description="A folder in diffusers' layout, or a repository id on the Hugging Face hub."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub; null: main.")
    variant: str | None = Field(None, description="File variant, such as fp16; null: the plain files.")


class Concept(BaseModel):
    """The word to be learnt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    placeholder_token: str = Field(
        description="The new word, as it will be written in prompts; unknown to the tokenizer."
    )
    initializer_token: str = Field(
        description="A known word near it: start of the vector, and the one to compare with."
    )
    initialization: Literal["word", "phrase", "random"] = Field(
        "word",
        description="Start of every vector: the vector of initializer_token, which must be one token; the mean over "
        "the tokens of initializer_token, which may be a phrase; or random, spread like the known words.",
    )
    property: Literal["object", "style"] = Field(
        "object", description="What the word names; decides the training captions."
    )
    vectors: PositiveInt = Field(
        1, le=64, description="Vectors that the word has; each takes a token's place in the prompt."
    )

    @field_validator("placeholder_token")
    @classmethod
    def _one_word(cls, value: str) -> str:
        if not value or any(c.isspace() for c in value):
            raise ValueError("must be one word without spaces, such as <charizard>")
        return value
