"""Frozen text encoders, CLIP or T5: one to which the placeholder token is new, and one that never sees it.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, N tokens of the vocabulary, D width.
"""

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from stages import UserError
from stages.models.embedding import ExtendedEmbedding, placeholder_tokens
from stages.models.params import Concept
from stages.models.weight_storage import move

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


class FixedTextEncoder:
    """A text encoder that never sees the placeholder token, so that every text is encoded once.

    The model is on the device only while it encodes. A training step holds its outputs and no weights.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, device: torch.device) -> None:
        self._tokenizer, self._model, self._device = tokenizer, model, device
        self._rows: dict[str, int] = {}
        # The outputs for all texts (N L D), and before them those for fewer texts, which a CUDA graph may still read.
        self._outputs: list[torch.Tensor] = []

    @torch.no_grad()
    def encode(self, texts: list[str]) -> torch.Tensor:
        """Encode the texts that the fixed text encoder has not seen, and return the row of each text (B 1)."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._rows]:
            move(self._model, self._device, "auto")
            ids = to_ids(self._tokenizer, new).to(self._device)
            # One at a time, so that an output does not depend on the other texts.
            outputs = [self._model(row[None]).last_hidden_state for row in ids]
            self._model.cpu()
            self._outputs.append(torch.cat([*self._outputs[-1:], *outputs]))
            self._rows |= {text: row for row, text in enumerate(new, len(self._rows))}
        return torch.tensor([[self._rows[text]] for text in texts])

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the outputs (B L D) in rows (B) that `encode` returned."""
        return self._outputs[-1].index_select(0, rows)


def to_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> torch.Tensor:
    """Return ids (B L) of texts, cut off or padded to the tokenizer's length."""
    length = tokenizer.model_max_length
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="np").input_ids
    return torch.from_numpy(ids)
