"""The curated images as cached latents. Legend: I images, H W image, c h w latent."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stages import UserError
from stages.common.read_outs import CuratedIndex, read_image, read_json
from stages.inversion.captions import build_captions
from stages.inversion.params import Train
from stages.models.backbone import Backbone
from stages.models.params import Concept


@dataclass(frozen=True)
class CuratedImage:
    """The file of an image, the text beside it or None, the height and width that it had before it was made a square,
    and the top and left of the square; the index of an older version lacks the sizes.
    """

    file: Path
    text: str | None = None
    original_size: tuple[int, int] | None = None
    crop: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class CuratedImages:
    """The training images and the held-out images."""

    train: list[CuratedImage]
    holdout: list[CuratedImage]


@dataclass(frozen=True)
class LatentCache:
    """The latents' mean and deviation (I c h w), those of the mirrored images or None, every image's captions, and the
    sizes (I 6) that `Backbone.predict` explains; a mirrored image has the same ones.
    """

    mean: torch.Tensor
    std: torch.Tensor
    mirrored: tuple[torch.Tensor, torch.Tensor] | None
    captions: list[list[int]]
    sizes: torch.Tensor

    def square(self) -> tuple[tuple[int, ...], torch.Tensor]:
        """Return the shape of the dataset's latents (c h w), and the sizes (1 6) of an image that is not cropped."""
        side = self.sizes[:1, 4:]
        return tuple(self.mean.shape[1:]), torch.cat([side, torch.zeros_like(side), side], dim=1)

    def sample(self, image: int, noise: torch.Tensor, flip: bool = False) -> torch.Tensor:
        """Draw the cached latents of an image from their posterior, with standard normal `noise` (c h w)."""
        mean, std = self.mirrored if flip and self.mirrored else (self.mean, self.std)
        return mean[image] + std[image] * noise


def curated_images(folder: Path) -> CuratedImages:
    """List the dataset: the curated images, with the text files beside the training images."""
    index = read_json(folder / "index.json", "curate", CuratedIndex)

    def image(row: dict, has_text: bool) -> CuratedImage:
        file = (folder / row["file"]).with_suffix(".txt")
        text = file.read_text(encoding="utf-8") if has_text and file.is_file() else None
        return CuratedImage(folder / row["file"], text, row.get("original_size"), row.get("crop", (0, 0)))

    return CuratedImages([image(row, True) for row in index["train"]], [image(row, False) for row in index["holdout"]])


def encode_dataset(
    backbone: Backbone, concept: Concept, recipe: Train, images: CuratedImages
) -> tuple[tuple[LatentCache, torch.Tensor], tuple[LatentCache, torch.Tensor]]:
    """Return the latents and caption ids of the training images, and those of the held-out images.

    If no images are held out, the training images serve for both.
    """
    build = partial(build_captions, concept.property, concept.placeholder_token, recipe.captions)
    captions, choices = build([image.text for image in images.train])
    training = encode_images(backbone, images.train, choices, recipe.flip), backbone.text.tokenize(captions)
    held_out = training
    if images.holdout:
        captions, choices = build([None] * len(images.holdout))
        held_out = encode_images(backbone, images.holdout, choices, False), backbone.text.tokenize(captions)
    backbone.release_vae(for_good=not recipe.progress_every)
    return training, held_out


def encode_images(backbone: Backbone, images: list[CuratedImage], captions: list[list[int]], flip: bool) -> LatentCache:
    """Encode images once, and mirrored once more if `flip`. Raises UserError for an image that cannot be encoded."""
    paths = [image.file for image in images]
    arrays = [np.asarray(_read(path, paths[0]), dtype=np.float32) for path in paths]
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1
    mean, std = _finite(backbone.encode(pixels), paths)
    mirrored = _finite(backbone.encode(pixels.flip(-1)), paths) if flip else None
    side = tuple(pixels.shape[-2:])
    sizes = torch.tensor([(*(image.original_size or side), *image.crop, *side) for image in images])
    return LatentCache(mean, std, mirrored, captions, sizes.float())


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
