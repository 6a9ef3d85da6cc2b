"""A tiny CLIP and a tiny DINOv2 on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from tests.tiny import tiny_clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("scoring") / "clip")


@pytest.fixture(scope="session")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("scoring") / "dino"
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    Dinov2Model(Dinov2Config(**size)).save_pretrained(folder)
    square = {"height": 32, "width": 32}
    BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=square).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    random = np.random.default_rng(0)
    coarse = [Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(4)]
    return [image.resize((40 + 8 * i, 48), Image.Resampling.BICUBIC) for i, image in enumerate(coarse)]
