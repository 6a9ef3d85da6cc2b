"""Encode images and texts with CLIP, and images with DINO.

Legend: N images or texts, D width of the embedding space; every row has length 1.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, BaseImageProcessor, CLIPModel, CLIPTokenizer
from transformers.utils import logging

from stages import UserError
from stages.common.pretrained import check_config, check_folder, check_vocabulary, load_model, loading
from stages.scoring.params import Evaluate

BLANK = Image.new("RGB", (64, 64), "gray")  # to run a model once when it is opened
MAX_SIDE = 4096  # px, and the largest number in the config of an image processor


class Clip:
    """CLIP (Radford et al. 2021): images and texts in one space."""

    def __init__(self, source: str, device: torch.device) -> None:
        self._model, self._processor = _load(CLIPModel, source, "evaluate.clip", device)
        with loading(source, "evaluate.clip"):
            self._tokenizer = CLIPTokenizer.from_pretrained(source)
            check_vocabulary(self._tokenizer, self._model.text_model.get_input_embeddings())
            self.images([BLANK])
            self.texts(["a photo"])

    @torch.inference_mode()
    def images(self, images: list[Image.Image]) -> np.ndarray:
        """Return the embeddings of images (N D)."""
        pixels = _preprocess(images, self._processor, self._model.device)
        return _normalize(self._model.get_image_features(**one).pooler_output for one in pixels)

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> np.ndarray:
        """Return the embeddings of texts (N D), truncated to the context of the model."""
        length = self._model.config.text_config.max_position_embeddings
        tokens = (self._tokenizer(text, truncation=True, max_length=length, return_tensors="pt") for text in texts)
        return _normalize(self._model.get_text_features(**one.to(self._model.device)).pooler_output for one in tokens)


class Dino:
    """DINO (Caron et al. 2021; Oquab et al. 2023): distinguishes individuals of one class better than CLIP."""

    def __init__(self, source: str, device: torch.device) -> None:
        self._model, self._processor = _load(AutoModel, source, "evaluate.dino", device)
        with loading(source, "evaluate.dino"):
            self.images([BLANK])

    @torch.inference_mode()
    def images(self, images: list[Image.Image]) -> np.ndarray:
        """Return the class tokens of images (N D)."""
        pixels = _preprocess(images, self._processor, self._model.device)
        return _normalize(self._model(**one).last_hidden_state[:, 0] for one in pixels)


def open_encoders(evaluate: Evaluate, device: torch.device) -> tuple[Clip, Dino | None]:
    """Return CLIP, and DINO if the params name one. Raises UserError if a model cannot be loaded."""
    return Clip(evaluate.clip, device), Dino(evaluate.dino, device) if evaluate.dino else None


def _load(kind: type, source: str, key: str, device: torch.device) -> tuple[torch.nn.Module, BaseImageProcessor]:
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # missing weights raise here; the libraries would only warn
    check_folder(source, key)
    with loading(source, key):
        model = load_model(kind, source, dtype=torch.float32, trust_remote_code=False)
        processor = AutoImageProcessor.from_pretrained(source, backend="pil", trust_remote_code=False)
        check_config(processor.to_dict(), "the processor", MAX_SIDE)
    return model.to(device), processor


def _preprocess(images: list[Image.Image], processor: BaseImageProcessor, device: torch.device) -> Iterator[dict]:
    """Yield the encoder's input for one image at a time, so that no embedding depends on the other images."""
    return (processor(images=image.convert("RGB"), return_tensors="pt").to(device) for image in images)


def _normalize(rows: Iterable[torch.Tensor]) -> np.ndarray:
    stacked = torch.cat([row.float().cpu() for row in rows]).numpy().astype(np.float64)
    norms = np.linalg.norm(stacked, axis=1, keepdims=True)
    if stacked.ndim != 2 or not (norms > 0).all() or not np.isfinite(norms).all():
        raise UserError(
            "the model gives an embedding of zeros or NaN; take another one in `evaluate.clip` or `evaluate.dino`."
        )
    return stacked / norms
