"""Embed images with CLIP: used only if `filter.clip` is set, because only this needs torch."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm
from transformers import CLIPVisionModelWithProjection
from transformers.utils import logging

from stages.common.pretrained import check_folder, load_model, loading
from stages.images.quality.background import border_colour
from stages.images.quality.decode import WHITE, decode, flatten

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training set


def clip_embeddings(source: str, files: list[Path | None]) -> np.ndarray:
    """Return the embeddings [files, D] float32 of image files, of length 1; zeros for None.

    The model runs on the CPU in float32, so that the verdicts are the same on every machine. Raises UserError if
    `source` is not a CLIP model.
    """
    check_folder(source, "filter.clip")
    logging.set_verbosity_error()  # the weights of the text encoder are not used
    logging.disable_progress_bar()
    with loading(source, "filter.clip"):
        model = load_model(CLIPVisionModelWithProjection, source, dtype=torch.float32)
    embeddings = np.zeros((len(files), model.config.projection_dim), np.float32)
    for i, file in enumerate(tqdm(files, "clip", unit="image", disable=None)):
        if file is not None:
            with torch.inference_mode():
                output = model(pixel_values=torch.from_numpy(_pixels(file, model.config.image_size)[None]))
            embeddings[i] = torch.nn.functional.normalize(output.image_embeds[0], dim=0).numpy()
    return embeddings


def _pixels(file: Path, side: int) -> np.ndarray:
    """Return an image as CLIP's input [3, side, side]: padded with its border colour, not cropped."""
    image = flatten(decode(file.read_bytes())[0], WHITE)
    square = ImageOps.pad(image, (side, side), Image.Resampling.BICUBIC, border_colour(np.asarray(image)))
    return ((np.asarray(square, np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)).transpose(2, 0, 1)


def center(embeddings: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Center CLIP embeddings [files, D] of one class at the mean of its usable images, and normalize them."""
    centered = embeddings - embeddings[usable].mean(axis=0) if usable.any() else embeddings
    return centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-6)
