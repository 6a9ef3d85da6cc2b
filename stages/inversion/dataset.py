"""The curated images as cached latents. Legend: I images, H W image, c h w latent."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stages import UserError
from stages.common.outs import read_image, read_json
from stages.models.backbone import Backbone


@dataclass(frozen=True)
class CuratedImages:
    """The files of training images, the text beside each or None, and the files of held-out images."""

    train: list[Path]
    texts: list[str | None]
    holdout: list[Path]


@dataclass(frozen=True)
class LatentCache:
    """The latents' mean and deviation (I c h w), those of the mirrored images or None, and every image's captions."""

    mean: torch.Tensor
    std: torch.Tensor
    mirrored: tuple[torch.Tensor, torch.Tensor] | None
    captions: list[list[int]]

    def sample(self, image: int, noise: torch.Tensor, flip: bool = False) -> torch.Tensor:
        """Draw from the posterior of an image's latents, with standard normal `noise` (c h w)."""
        mean, std = self.mirrored if flip and self.mirrored else (self.mean, self.std)
        return mean[image] + std[image] * noise


def curated_images(folder: Path) -> CuratedImages:
    """List the curated images, with the text files beside the training images."""
    index = read_json(folder / "index.json", "curate")
    try:
        train, holdout = ([folder / row["file"] for row in index[part]] for part in ("train", "holdout"))
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder}/index.json has no list of images ({error}); run `dvc repro -f curate`.") from None
    files = [path.with_suffix(".txt") for path in train]
    return CuratedImages(train, [f.read_text(encoding="utf-8") if f.is_file() else None for f in files], holdout)


def encode_images(backbone: Backbone, paths: list[Path], captions: list[list[int]], flip: bool) -> LatentCache:
    """Encode images once, and mirrored once more if `flip`. Raises UserError for an image that cannot be encoded."""
    arrays = [np.asarray(_read(path, paths[0]), dtype=np.float32) for path in paths]
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1
    mean, std = _finite(backbone.encode(images), paths)
    return LatentCache(mean, std, _finite(backbone.encode(images.flip(-1)), paths) if flip else None, captions)


def _read(path: Path, first: Path) -> Image.Image:
    image = read_image(path, "curate")
    if image.size != Image.open(first).size:
        raise UserError(f"{path} and {first} differ in size; run `dvc repro -f curate`.")
    return image


def _finite(latents: tuple[torch.Tensor, torch.Tensor], paths: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    for i, path in enumerate(paths):
        if not all(torch.isfinite(tensor[i]).all() for tensor in latents):
            raise UserError(
                f"the latents of {path} contain NaN or Inf: the model's VAE cannot encode it; exclude the image in "
                "`curate.exclude`, or get the model again."
            )
    return latents
