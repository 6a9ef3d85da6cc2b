"""Pictures and sentences => directions, by a CLIP model and, where one is asked for, a DINO model.

Legend: N pictures or sentences, D width of the model's space; every row has length 1.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModel, CLIPModel, CLIPTokenizer
from transformers.utils import logging

from stages import UserError
from stages.scoring.params import Evaluate


class Clip:
    """CLIP (Radford et al. 2021): pictures and sentences in one space."""

    def __init__(self, source: str, device: torch.device) -> None:
        _quiet()
        with _one_sentence("evaluate.clip", source):
            self._model = _whole(CLIPModel, source).to(device)
            self._tokenizer = CLIPTokenizer.from_pretrained(source)
            self._processor = AutoImageProcessor.from_pretrained(source, backend="pil")

    @torch.inference_mode()
    def pictures(self, images: list[Image.Image]) -> np.ndarray:
        """=> (N D). One picture at a time, so that none depends on its neighbours."""
        return _stack(
            self._model.get_image_features(**_pixels(self._processor, image, self._model.device)).pooler_output
            for image in images
        )

    @torch.inference_mode()
    def sentences(self, texts: list[str]) -> np.ndarray:
        """=> (N D). What does not fit into the model's context is left off at the end."""
        length = self._model.config.text_config.max_position_embeddings
        return _stack(
            self._model.get_text_features(
                **self._tokenizer(text, truncation=True, max_length=length, return_tensors="pt").to(self._model.device)
            ).pooler_output
            for text in texts
        )


class Dino:
    """DINO (Caron et al. 2021; Oquab et al. 2023): sees which individual it is more than what kind of thing."""

    def __init__(self, source: str, device: torch.device) -> None:
        _quiet()
        with _one_sentence("evaluate.dino", source):
            self._model = _whole(AutoModel, source).to(device)
            self._processor = AutoImageProcessor.from_pretrained(source, backend="pil")

    @torch.inference_mode()
    def pictures(self, images: list[Image.Image]) -> np.ndarray:
        """=> (N D), the class token's."""
        return _stack(
            self._model(**_pixels(self._processor, image, self._model.device)).last_hidden_state[:, 0]
            for image in images
        )


def open_encoders(evaluate: Evaluate, device: torch.device) -> tuple[Clip, Dino | None]:
    """`evaluate` => CLIP, and DINO where it is asked for. Raises UserError where one is not there or not whole."""
    return Clip(evaluate.clip, device), Dino(evaluate.dino, device) if evaluate.dino else None


def _quiet() -> None:
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what matters of what it would say is raised here


def _whole(kind: type, source: str) -> torch.nn.Module:
    """=> the model from safetensors, every weight of it read: the library would fill in random ones without a word."""
    model, found = kind.from_pretrained(source, dtype=torch.float32, use_safetensors=True, output_loading_info=True)
    if found["missing_keys"]:
        raise ValueError(f"it has no {sorted(found['missing_keys'])[0]}")
    return model.eval()


def _pixels(processor: object, image: Image.Image, device: torch.device) -> dict:
    return processor(images=image.convert("RGB"), return_tensors="pt").to(device)


def _stack(rows: Iterator[torch.Tensor]) -> np.ndarray:
    stacked = torch.cat([row.float().cpu() for row in rows]).numpy().astype(np.float64)
    return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


@contextlib.contextmanager
def _one_sentence(key: str, source: str) -> Iterator[None]:
    folder = Path(source)
    if not folder.is_dir() and (
        source.startswith((".", "/", "~")) or source.count("/") != 1 or "starter" in folder.parts
    ):
        raise UserError(f"the folder {source} is not here; mend `{key}`.")
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        said = " ".join(str(error).split())[:300]
        raise UserError(
            f"{source} cannot be read as a model of `{key}` ({said}); get it again or mend the key."
        ) from None
