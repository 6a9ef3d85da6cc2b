"""Count the bytes of the models' weights, without the weights: python -m bench.memory

The rows are what a device holds: all weights in half precision, with `model.storage_dtype: fp8`, and with
`runtime.offload: true`, where one layer after the other is copied to it. Activations are not counted.
"""

import argparse

import torch
from diffusers import AutoencoderKL
from torch import nn

from bench.shapes import SIDES, parts
from stages.models.weight_storage import stored_layers

GIB = 2**30
STORED = ("unet", "transformer", "text_encoder_3")  # the parts that `model.storage_dtype` is for


def main() -> None:
    """Print a line per model and part."""
    argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__).parse_args()
    print(f"{'GiB':28}{'half':>8}{'fp8':>8}{'offload':>9}{'largest layer':>15}")
    for name in SIDES:
        with torch.device("meta"):
            models = {part: model for part, model in parts(name).items() if isinstance(model, nn.Module)}
        for part, model in models.items():
            if not isinstance(model, AutoencoderKL):  # it leaves the device before the first step
                print(f"{name:12}{part:16}" + line(model, fp8=part in STORED))


def line(model: nn.Module, *, fp8: bool) -> str:
    """Return the columns of a model. The layers in its repeated blocks are offloaded, and with `fp8` stored so."""
    half = 2 * sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    layers = [layer.stored.numel() for layer in stored_layers(model)]
    columns = half, half - fp8 * sum(layers), half - 2 * sum(layers), 2 * max(layers)
    return "".join(f"{count / GIB:{width}.2f}" for count, width in zip(columns, (8, 8, 9, 15), strict=True))


if __name__ == "__main__":
    main()
