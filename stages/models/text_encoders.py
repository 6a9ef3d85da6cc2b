"""Frozen text encoders, CLIP or T5, to which the placeholder token is new: one, and all of a model side by side.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, N tokens of the vocabulary, D width.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional as F
from transformers import CLIPTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from stages import UserError
from stages.models.embedding import ExtendedEmbedding, Tables, placeholder_tokens
from stages.models.params import Concept

T5_LENGTH = 256  # tokens of a prompt for T5; the default of StableDiffusion3Pipeline


class TextEncoder:
    """A text encoder and its tokenizer, with rows for the vectors of the placeholder token in its table."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, concept: Concept) -> None:
        self.tokenizer, self.model = tokenizer, model
        self.initializer_ids = self._ids(concept.initializer_token)
        self._tokens = placeholder_tokens(concept.placeholder_token, concept.vectors)
        self._check_placeholder()
        tokenizer.add_tokens(self._tokens)
        self._embedding = ExtendedEmbedding(model.get_input_embeddings(), concept.vectors)
        model.set_input_embeddings(self._embedding)
        names = {module: name for name, module in model.named_modules()}
        self._new_rows = f"{names[self._embedding]}.new"

    @property
    def width(self) -> int:
        return self._embedding.new.shape[1]

    def _check_placeholder(self) -> None:
        vocabulary, ids = self.tokenizer.get_vocab(), self._ids(self._tokens[0])
        is_token = len(ids) == 1 and ids != [self.tokenizer.unk_token_id]
        if is_token or any(token in vocabulary for token in self._tokens):
            raise UserError(
                f"`concept.placeholder_token` {self._tokens[0]} is already a token of this model; choose another."
            )

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def table(self) -> torch.Tensor:
        """Return the table of token embeddings (N D), float32, on the CPU."""
        return self._embedding.weight.detach().float().cpu()

    def mean_embeddings(self, texts: list[str]) -> torch.Tensor:
        """Return this text encoder's mean token embedding of each text (N D); zeros for a text without tokens."""
        ids = self.tokenizer(texts, add_special_tokens=False).input_ids
        starts = torch.tensor([0, *(len(row) for row in ids[:-1])]).cumsum(0)
        return F.embedding_bag(torch.tensor([i for row in ids for i in row]), self.table(), starts, mode="mean")

    def _vocabulary(self) -> list[str]:
        """Return the token of each row of the table (N); empty for special tokens and rows without one."""
        tokens = self.tokenizer.convert_ids_to_tokens(range(min(self._embedding.first, len(self.tokenizer))))
        special = {*self.tokenizer.all_special_tokens, *self._tokens}
        tokens = ["" if token in special else token for token in tokens]
        return tokens + [""] * (self._embedding.first - len(tokens))

    def words(self) -> list[str]:
        """Return the word that each row of the table stands for (N); empty for special tokens and parts of words."""
        words = [token.removesuffix("</w>") if token.endswith("</w>") else "" for token in self._vocabulary()]
        return [word if word.isalpha() else "" for word in words]

    def texts(self) -> list[str]:
        """Return the text that each row of the table stands for (N)."""
        return [self.tokenizer.decode([row]) if token else "" for row, token in enumerate(self._vocabulary())]

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        """Return this text encoder's ids (B L) of captions with the placeholder token.

        Raises UserError if the token is missing or cut off.
        """
        ids = to_ids(self.tokenizer, [caption.replace(self._tokens[0], " ".join(self._tokens)) for caption in captions])
        new_ids = self.tokenizer.convert_tokens_to_ids(self._tokens)
        for caption, row in zip(captions, ids, strict=True):
            if not np.isin(new_ids, row).all():
                raise UserError(
                    f"the caption {caption!r} has no {self._tokens[0]} within its first {ids.shape[1]} tokens; add the "
                    "token, move it to the front, or shorten the caption."
                )
        # A table may have more rows than its tokenizer has tokens; the new rows follow the table.
        for row, new_id in enumerate(new_ids):
            ids = torch.where(ids == new_id, self._embedding.first + row, ids)
        return ids

    def __call__(self, ids: torch.Tensor, vectors: torch.Tensor, **options: bool) -> ModelOutput:
        """Encode ids (B L), with `vectors` (V D) as the placeholder token's embedding."""
        return functional_call(self.model, {self._new_rows: vectors}, kwargs={"input_ids": ids, **options})


class TextEncoders:
    """The text encoders of a model that are trained, side by side, CLIP's first; `fixed` is one that is not.

    `tables` names their tables of token embeddings.
    """

    fixed: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __init__(self, encoders: dict[str, tuple[PreTrainedTokenizerBase, PreTrainedModel]], concept: Concept) -> None:
        """Take the tokenizers and models by the names of their tables.

        Raises UserError for an initializer token that this model cannot start from.
        """
        self._concept = concept
        self.encoders = [TextEncoder(*parts, concept) for parts in encoders.values()]
        self.tables = Tables({name: e.width for name, e in zip(encoders, self.encoders, strict=True)})
        self._check_initializer()

    def _check_initializer(self) -> None:
        token, first = self._concept.initializer_token, self.encoders[0]
        if not first.initializer_ids:
            raise UserError(
                "`concept.initializer_token` is empty; set it to a known token near the concept, such as dragon."
            )
        if self._concept.initialization == "word" and len(first.initializer_ids) > 1:
            pieces = " + ".join(first.tokenizer.convert_ids_to_tokens(first.initializer_ids))
            raise UserError(
                f"`concept.initializer_token` {token!r} is {len(first.initializer_ids)} tokens for this model "
                f"({pieces}); choose a shorter word, or set `concept.initialization: phrase` to start from their mean."
            )

    def token_embeddings(self) -> torch.Tensor:
        """Return the embeddings of CLIP's tokens in the tables of all text encoders (N D), float32, on the CPU.

        In a table of another vocabulary, that of T5, it is the mean of the tokens of the CLIP token's text.
        """
        first = self.encoders[0]
        return torch.cat(
            [
                encoder.table()
                if isinstance(encoder.tokenizer, CLIPTokenizer)
                else encoder.mean_embeddings(first.texts())
                for encoder in self.encoders
            ],
            dim=1,
        )

    def words(self) -> list[str]:
        """Return the word of each row of the tables (N); empty for special tokens and parts of words."""
        return self.encoders[0].words()

    def initializer_vectors(self) -> torch.Tensor:
        """Return the initializer token's embedding in the tables of all text encoders, V times (V D), float32."""
        means = [encoder.table()[encoder.initializer_ids].mean(0) for encoder in self.encoders]
        return torch.cat(means).expand(self._concept.vectors, -1).clone()

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        """Return ids (B L) of captions with the placeholder token, for all text encoders side by side.

        Raises UserError if the token is cut off.
        """
        return torch.cat([encoder.tokenize(captions) for encoder in self.encoders], dim=1)

    def empty_prompt(self) -> torch.Tensor:
        """Return the ids (1 L) of an empty prompt, for all text encoders side by side."""
        return torch.cat([to_ids(encoder.tokenizer, [""]) for encoder in self.encoders], dim=1)

    def split(self, ids: torch.Tensor, vectors: torch.Tensor) -> list[tuple[TextEncoder, torch.Tensor, torch.Tensor]]:
        """Return the text encoders, each with its part of the ids (B L) and of the vectors (V D)."""
        lengths = [encoder.tokenizer.model_max_length for encoder in self.encoders]
        parts = ids.split([*lengths, ids.shape[1] - sum(lengths)], dim=1)
        return list(zip(self.encoders, parts, self.tables.split(vectors).values(), strict=False))


def to_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> torch.Tensor:
    """Return ids (B L) of texts, cut off or padded to the tokenizer's length."""
    length = tokenizer.model_max_length
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="np").input_ids
    return torch.from_numpy(ids)
