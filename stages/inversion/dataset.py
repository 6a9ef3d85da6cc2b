"""Picture files => latents' statistics, encoded once. Legend: P pictures, H W picture, c h w latent."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stages import UserError
from stages.inversion.sampler import Pictures, check_finite
from stages.models.backbone import Backbone


@dataclass(frozen=True)
class Examples:
    """Picture files to learn from with the texts beside them, and picture files to judge by."""

    train: list[Path]
    captions: list[str | None]
    holdout: list[Path]


def examples(folder: Path) -> Examples:
    """The folder of curated pictures => them, with the text files beside those to learn from."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        train, holdout = ([folder / row["file"] for row in index[part]] for part in ("train", "holdout"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}/index.json cannot be read ({error}); run `dvc repro curate`.") from None
    texts = [path.with_suffix(".txt") for path in train]
    return Examples(train, [t.read_text(encoding="utf-8") if t.is_file() else None for t in texts], holdout)


def read(paths: list[Path]) -> torch.Tensor:
    """Files => (P 3 H W) in [-1, 1]. Raises UserError for one that is no picture or of another size."""
    arrays = []
    for path in paths:
        try:
            with Image.open(path) as image:
                arrays.append(np.asarray(image.convert("RGB"), dtype=np.float32))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read as a picture ({error}); run `dvc repro curate` again.") from None
        if arrays[-1].shape != arrays[0].shape:
            raise UserError(f"{path} is of another size than {paths[0]}; run `dvc repro curate` again.")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1


def encode(backbone: Backbone, paths: list[Path], choices: list[list[int]], flip: bool) -> Pictures:
    """Files, the captions that each may have => their latents' means and deviations, mirrored too if `flip`."""
    pictures = read(paths)
    mean, std = _checked(backbone.encode(pictures), paths)
    mirrored = _checked(backbone.encode(pictures.flip(-1)), paths) if flip else None
    return Pictures(mean, std, mirrored, choices)


def _checked(latents: tuple[torch.Tensor, torch.Tensor], paths: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    for tensor in latents:
        name = check_finite(tensor, [str(path) for path in paths])
        if name is not None:
            raise UserError(
                f"the latents of {name} are not numbers: the model's VAE cannot encode it; exclude the picture in "
                "`curate.exclude`, or get the model again."
            )
    return latents
