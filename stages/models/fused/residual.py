"""The denoiser's convolutional blocks on fused kernels.

Legend: N batch, C channels, H W picture of features.
"""

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn import functional as F

from stages.models.fused import norm, pointwise


class Norm(nn.Module):
    """A group norm and perhaps the SiLU behind it."""

    def __init__(self, norm: nn.GroupNorm, *, silu: bool) -> None:
        super().__init__()
        self.norm, self.silu = norm, silu

    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        """x (N C H W), what is added to it first (N C) => (N C H W)."""
        of = self.norm
        return norm.GroupNorm.apply(x, shift, of.weight, of.bias, of.num_groups, of.eps, self.silu)


class FrozenConvolution(torch.autograd.Function):
    """A convolution whose weight does not learn: its input need not be kept."""

    @staticmethod
    def forward(ctx, x, weight, padding):
        ctx.save_for_backward(weight)
        ctx.size, ctx.padding = x.shape, padding
        return F.conv2d(x, weight, padding=padding)

    @staticmethod
    def backward(ctx, dy):
        (weight,) = ctx.saved_tensors
        return torch.nn.grad.conv2d_input(ctx.size, weight, dy, padding=ctx.padding), None, None


def per_pixel(layer: nn.Conv2d | nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """A linear layer or 1 x 1 convolution, x (... C) => (... C'): as a matrix product its bias costs no pass."""
    return F.linear(x, layer.weight.flatten(1), layer.bias)


class Residual(nn.Module):
    """A residual block: the convolutions' biases and the time's shift are added within the kernels beside them."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.before, self.between = Norm(block.norm1, silu=True), Norm(block.norm2, silu=True)
        self.first, self.second, self.time = block.conv1, block.conv2, block.time_emb_proj
        self.shortcut = block.conv_shortcut

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """x (N C H W), embedded timesteps (N E) => (N C' H W)."""
        shift = self.time(F.silu(time)) + self.first.bias
        hidden = FrozenConvolution.apply(self.before(x), self.first.weight, self.first.padding)
        hidden = FrozenConvolution.apply(self.between(hidden, shift), self.second.weight, self.second.padding)
        if self.shortcut is not None:
            x = per_pixel(self.shortcut, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return pointwise.Sum.apply(x, hidden, self.second.bias)
