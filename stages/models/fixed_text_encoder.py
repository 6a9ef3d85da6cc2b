"""A frozen text encoder that never sees the placeholder token, such as T5 with `model.t5: frozen`.

Legend: B batch, L tokens of a prompt, N texts, D width.
"""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.models.params import Concept
from stages.models.text_encoders import TextEncoders, to_ids
from stages.models.weight_storage import move


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


class TextEncodersBesideFixed(TextEncoders):
    """Text encoders whose ids end with the row of each text in the outputs of a fixed one.

    The fixed one reads the initializer token in place of the placeholder token.
    """

    def __init__(
        self,
        encoders: dict[str, tuple[PreTrainedTokenizerBase, PreTrainedModel]],
        concept: Concept,
        fixed: FixedTextEncoder,
    ) -> None:
        super().__init__(encoders, concept)
        self.fixed = fixed

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        placeholder, initializer = self._concept.placeholder_token, self._concept.initializer_token
        texts = [caption.replace(placeholder, initializer) for caption in captions]
        return torch.cat([super().tokenize(captions), self.fixed.encode(texts)], dim=1)

    def empty_prompt(self) -> torch.Tensor:
        return torch.cat([super().empty_prompt(), self.fixed.encode([""])], dim=1)
