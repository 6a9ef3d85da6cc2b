"""Pictures => CLIP's features of them. Only this part of the filter needs torch, and only where `filter.clip` is set.

Legend: B pictures at once, S side in pixels, D length of a feature.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionModelWithProjection
from transformers.utils import logging

from stages import UserError
from stages.images.quality.background import colour
from stages.images.quality.decode import decode, flatten

BATCH = 32  # always, so that the same pictures give the same numbers
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training set
WHITE = (255, 255, 255)


class Clip:
    """A CLIP model's eye, on the CPU in float32: what decides about a picture is the same wherever it is asked."""

    def __init__(self, name: str) -> None:
        """A folder or a hub id => the model, from safetensors. Raises UserError where it is not there or not whole."""
        before = logging.get_verbosity()
        logging.set_verbosity_error()  # else it lists the words' half of the weights as not needed
        logging.disable_progress_bar()
        try:
            self._model, found = CLIPVisionModelWithProjection.from_pretrained(
                name, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            if found["missing_keys"]:  # the library would draw them at random
                raise ValueError(f"it has no {sorted(found['missing_keys'])[0]}")
        except (OSError, ValueError) as error:
            why = str(error).split(". ")[0].splitlines()[0]
            raise UserError(
                f"filter.clip {name} is no CLIP model ({why}); give a folder or a hub id of one, or null."
            ) from None
        finally:
            logging.set_verbosity(before)
            logging.enable_progress_bar()
        self._model.eval()
        self.width: int = self._model.config.projection_dim
        self._side: int = self._model.config.image_size

    def features(self, files: Iterable[Path]) -> Iterator[np.ndarray]:
        """Picture files that decode => [D] float32 of length 1 each, in their order."""
        files = iter(files)
        while some := list(islice(files, BATCH)):
            pixels = torch.from_numpy(np.stack([self._pixels(file) for file in some]))
            with torch.inference_mode():
                found = torch.nn.functional.normalize(self._model(pixel_values=pixels).image_embeds, dim=-1)
            yield from found.numpy()

    def _pixels(self, file: Path) -> np.ndarray:
        """A file => [3, S, S]: the whole picture, padded with its border's colour and never cut."""
        image = flatten(decode(file.read_bytes(), max_megapixels=float("inf")).image, WHITE)
        factor = self._side / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        whole = Image.new("RGB", (self._side, self._side), colour(np.asarray(image)))
        whole.paste(image, ((self._side - size[0]) // 2, (self._side - size[1]) // 2))
        scaled = (np.asarray(whole, np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
        return scaled.transpose(2, 0, 1)
