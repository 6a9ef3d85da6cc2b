"""Linear layers and convolutions whose weights are frozen: they compute the gradient of their inputs only."""

import torch
from torch import nn
from torch.nn import functional as F


class FrozenConv2d(torch.autograd.Function):
    """Apply a convolution with a frozen weight without keeping its input for the backward pass."""

    @staticmethod
    def forward(ctx, x, weight, padding):
        ctx.save_for_backward(weight)
        ctx.size, ctx.padding = x.shape, padding
        return F.conv2d(x, weight, padding=padding)

    @staticmethod
    def backward(ctx, dy):
        (weight,) = ctx.saved_tensors
        return torch.nn.grad.conv2d_input(ctx.size, weight, dy, padding=ctx.padding), None, None


def linear_1x1(layer: nn.Conv2d | nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """Apply a linear layer or 1 x 1 convolution to x (... C); a matrix product adds the bias without another pass."""
    return F.linear(x, layer.weight.flatten(1), layer.bias)


def concat_weights(*layers: nn.Linear) -> torch.Tensor:
    """Return the weights of linear layers with the same input as one, so that one matrix product applies them all.

    It is on the CPU until the layers are gone, so that the device never holds a weight twice.
    """
    return torch.cat([layer.weight.detach().cpu() for layer in layers])


class ConcatLinear(torch.autograd.Function):
    """Apply a frozen linear layer, weight (E C + C'), to x (... C) and skip (... C') without concatenating them."""

    @staticmethod
    def forward(ctx, x, skip, weight, bias):
        weight_x, weight_skip = weight.split((x.shape[-1], skip.shape[-1]), 1)
        ctx.save_for_backward(weight_x, weight_skip)
        y = F.linear(x, weight_x, bias)
        y.flatten(0, -2).addmm_(skip.flatten(0, -2), weight_skip.t())
        return y

    @staticmethod
    def backward(ctx, dy):
        return *(dy @ weight for weight in ctx.saved_tensors), None, None
