"""Store the weights of frozen layers in 8 bits, and restore one layer at a time for a call and for its gradient.

diffusers' layerwise casting is for inference: autograd keeps the restored weights of all layers for the backward pass,
and the gradient of a convolution fails. Here autograd keeps nothing of the weights.

Legend: x the input of a layer.
"""

import re

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

FP8 = torch.float8_e4m3fn
REPEATED = re.compile(r"\.\d+\.")  # in the name of a layer of one of a model's repeated blocks


class _Apply(torch.autograd.Function):
    """Call a layer with its restored weight, and restore it again for the gradient of the input."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, layer: "StoredLayer") -> torch.Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        return layer.output(x, layer.restored())

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.layer.input_gradient(grad, ctx.layer.restored(), ctx.shape), None


class StoredLayer(nn.Module):
    """A frozen layer with its weight in 8 bits, times a power of two. Norms, biases and embeddings are no such layers.

    The power of two uses the range of the 8-bit format and rounds nothing.
    """

    weight = None  # so that no library takes its precision for that of the computation

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        weight, largest = layer.weight.detach(), torch.finfo(FP8).max
        self.dtype, self.bias = weight.dtype, layer.bias
        # An exponent below -24 is no number of fp16.
        exponent = min(24, int(torch.floor(torch.log2(largest / weight.abs().max().float().clamp(min=1e-12)))))
        self.scale = 2.0**-exponent
        self.register_buffer("stored", (weight.float() / self.scale).to(FP8))

    def restored(self) -> torch.Tensor:
        """Return the weight at the precision of the computation."""
        return self.stored.to(self.dtype).mul_(self.scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the layer's output."""
        return _Apply.apply(x.to(self.dtype), self)


class StoredLinear(StoredLayer):
    """A frozen linear layer."""

    def output(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the layer's output with a restored weight."""
        return F.linear(x, weight, self.bias)

    def input_gradient(self, grad: torch.Tensor, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Return the gradient of x, which has this shape, from that of the output."""
        return grad @ weight


class StoredConv2d(StoredLayer):
    """A frozen convolution with zeros as padding."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(layer)
        self._options = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def output(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the layer's output with a restored weight."""
        return F.conv2d(x, weight, self.bias, *self._options)

    def input_gradient(self, grad: torch.Tensor, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Return the gradient of x, which has this shape, from that of the output."""
        return conv2d_input(shape, weight, grad, *self._options)


KINDS = {nn.Linear: StoredLinear, nn.Conv2d: StoredConv2d}


def store_in_fp8(model: nn.Module) -> None:
    """Replace the linear and convolution layers in the repeated blocks of a frozen model."""
    for name, layer in list(model.named_modules()):
        if type(layer) in KINDS and REPEATED.search(name) and getattr(layer, "padding_mode", "zeros") == "zeros":
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, KINDS[type(layer)](layer))


def is_stored(model: nn.Module) -> bool:
    """Return whether layers of a model have been replaced."""
    return any(isinstance(module, StoredLayer) for module in model.modules())
