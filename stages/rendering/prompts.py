"""Encode prompts; those that are longer than the text encoder's window are cut, or encoded in chunks.

Legend: L tokens of the window, W windows, D width.
"""

from collections.abc import Iterable

import torch
from diffusers.loaders import TextualInversionLoaderMixin

from stages import UserError
from stages.models.cuda_graph import Tensors
from stages.models.weight_storage import move
from stages.rendering.adapters import StableDiffusionAdapter
from stages.rendering.load_embedding import LoadedEmbedding


class PromptEncoder:
    """Encodes every prompt once. `warnings` says what was cut off."""

    def __init__(self, adapter: StableDiffusionAdapter, embeddings: list[LoadedEmbedding], *, chunk: bool) -> None:
        self._adapter, self._embeddings, self._chunk = adapter, embeddings, chunk
        if chunk and adapter.has_t5:
            raise UserError("`render.long_prompts: chunk` does not support Stable Diffusion 3; set it to cut.")
        self._tokenizer = adapter.tokenizers()[0]
        self._vectors = {e.placeholder: self._tokenizer.convert_tokens_to_ids([*e.tokens]) for e in embeddings}
        self._room = self._tokenizer.model_max_length - 2  # without the tokens for start and end
        self._windows: dict[str, list[list[int]]] = {}
        self._encoded: dict[tuple[tuple[int, ...], str], Tensors] = {}
        self.warnings: list[str] = []

    def windows(self, text: str) -> int:
        """Return the number of windows of a prompt. Raises UserError if truncation cuts a placeholder token."""
        return len(self._split(text))

    def prepare(self, texts: Iterable[str], device: torch.device, offload: bool | str) -> None:
        """Encode prompts on `device`. The text encoders are there only meanwhile, as `runtime.offload` says."""
        texts = [*texts, *([""] if self._chunk else [])]  # an empty prompt fills up those with fewer windows
        if missing := [text for text in dict.fromkeys(texts) if text not in self._windows]:
            for encoder in self._adapter.encoders():
                move(encoder, device, offload)
            for text in missing:
                self.encode(text)
            for encoder in self._adapter.encoders():
                encoder.cpu()

    def encode(self, text: str, windows: int = 1) -> Tensors:
        """Return the tensors of a prompt, first the embeddings (W x L D), filled up with empty prompts to `windows`."""
        chunks = self._split(text)
        encoded = [self._encode(chunk, self._t5_text(text)) for chunk in chunks + [[]] * (windows - len(chunks))]
        # The pooled embeddings of a prompt are those of its first window, as in the web UIs.
        return torch.cat([tensors[0] for tensors in encoded]), *encoded[0][1:]

    def encode_negative(self, text: str, windows: int = 1) -> Tensors:
        """Return the encoded negative prompt; Stable Diffusion XL was trained with zeros for an empty prompt."""
        encoded = self.encode(text, windows)
        return encoded if text or not self._adapter.zeros_for_empty else tuple(map(torch.zeros_like, encoded))

    def _encode(self, ids: list[int], t5_text: str) -> Tensors:
        key = tuple(ids), t5_text
        if key not in self._encoded:
            windows, device = [], self._adapter.encoders()[0].device
            for tokenizer in self._adapter.tokenizers():
                padding = [tokenizer.pad_token_id] * (self._room - len(ids))
                window = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *padding]
                windows.append(torch.tensor([window], device=device))
            self._encoded[key] = self._adapter.encode(windows, t5_text)
        return self._encoded[key]

    def _t5_text(self, text: str) -> str:
        if not self._adapter.has_t5 or self._adapter.pipeline.tokenizer_3 is None:
            return ""
        for embedding in self._embeddings:
            text = embedding.for_t5(text)
        return expand(text, self._adapter.pipeline.tokenizer_3)

    def _split(self, text: str) -> list[list[int]]:
        """Return the ids of each window."""
        if text not in self._windows:
            ids = self._tokenizer(expand(text, self._tokenizer), add_special_tokens=False, verbose=False).input_ids
            windows = self._chunks(ids) if self._chunk else [ids[: self._room]]
            for name, vectors in self._vectors.items():
                if name in text and not any(set(vectors) <= set(window) for window in windows):
                    raise UserError(
                        f"the prompt {text!r} has no room for {name} within {self._tokenizer.model_max_length} tokens; "
                        "move {} closer to the start."
                    )
            if len(ids) > self._room and not self._chunk:
                cut, advice = self._tokenizer.decode(ids[self._room :]), "`render.long_prompts: chunk` would use it"
                if self._adapter.has_t5:
                    advice = "only T5 reads it" if self._adapter.pipeline.tokenizer_3 else "only T5 would read it"
                self.warnings.append(
                    f"the prompt {text!r} is longer than {self._room} tokens; {cut!r} is cut off ({advice})"
                )
            self._windows[text] = windows
        return self._windows[text]

    def _chunks(self, ids: list[int]) -> list[list[int]]:
        """Split the ids of a long prompt into windows; the vectors of a placeholder token stay in one window."""
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


def expand(text: str, tokenizer: object) -> str:
    """Expand every placeholder of a loaded embedding in a text to the tokens of all its vectors."""
    return TextualInversionLoaderMixin().maybe_convert_prompt(text, tokenizer)
