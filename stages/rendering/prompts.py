"""Encode prompts; those that are longer than the text encoder's window are cut, or encoded in chunks.

Legend: L tokens of the window, W windows, D width.
"""

import torch
from diffusers import StableDiffusionPipeline

from stages import UserError


class PromptEncoder:
    """Encodes every prompt once. `warnings` says what was cut off."""

    def __init__(self, pipeline: StableDiffusionPipeline, placeholders: list[str], *, chunk: bool) -> None:
        self._pipeline, self._tokenizer, self._chunk = pipeline, pipeline.tokenizer, chunk
        added = pipeline.tokenizer.added_tokens_encoder
        self._vectors = {
            name: [id_ for token, id_ in added.items() if token == name or token.startswith(f"{name}_")]
            for name in placeholders
        }
        self._room = self._tokenizer.model_max_length - 2  # without the tokens for start and end
        self._windows: dict[str, list[list[int]]] = {}
        self._embeds: dict[tuple[int, ...], torch.Tensor] = {}
        self.warnings: list[str] = []

    def windows(self, text: str) -> int:
        """Return the number of windows of a prompt. Raises UserError if truncation cuts a placeholder token."""
        return len(self._split(text))

    def encode(self, text: str, windows: int = 1) -> torch.Tensor:
        """Return the embeddings of a prompt (W x L D), filled up with empty prompts to `windows`."""
        chunks = self._split(text)
        return torch.cat([self._encode(chunk) for chunk in chunks + [[]] * (windows - len(chunks))])

    def _encode(self, ids: list[int]) -> torch.Tensor:
        if tuple(ids) not in self._embeds:
            tokenizer, encoder = self._tokenizer, self._pipeline.text_encoder
            padding = [tokenizer.pad_token_id] * (self._room - len(ids))
            window = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *padding]
            self._embeds[tuple(ids)] = encoder(torch.tensor([window], device=encoder.device))[0][0]
        return self._embeds[tuple(ids)]

    def _split(self, text: str) -> list[list[int]]:
        """Return the ids of each window."""
        if text not in self._windows:
            # diffusers expands a placeholder token to one token per vector.
            expanded = self._pipeline.maybe_convert_prompt(text, self._tokenizer)
            ids = self._tokenizer(expanded, add_special_tokens=False, verbose=False).input_ids
            windows = self._chunks(ids) if self._chunk else [ids[: self._room]]
            for name, vectors in self._vectors.items():
                if name in text and not any(set(vectors) <= set(window) for window in windows):
                    raise UserError(
                        f"the prompt {text!r} has no room for {name} within {self._tokenizer.model_max_length} tokens; "
                        "move {} closer to the start."
                    )
            if len(ids) > self._room and not self._chunk:
                cut = self._tokenizer.decode(ids[self._room :])
                self.warnings.append(
                    f"the prompt {text!r} is longer than {self._room} tokens; {cut!r} is cut off "
                    "(`render.long_prompts: chunk` would use it)"
                )
            self._windows[text] = windows
        return self._windows[text]

    def _chunks(self, ids: list[int]) -> list[list[int]]:
        """Split ids into windows; the vectors of a placeholder token stay in one window."""
        following = {id_ for vectors in self._vectors.values() for id_ in vectors[1:]}
        groups: list[list[int]] = []
        for id_ in ids:
            if id_ in following and groups:
                groups[-1].append(id_)
            else:
                groups.append([id_])
        windows: list[list[int]] = [[]]
        for group in groups:
            if len(windows[-1]) + len(group) > self._room:
                windows.append([])
            windows[-1] += group
        return [window[: self._room] for window in windows]
