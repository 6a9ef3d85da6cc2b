"""The denoiser's convolutional blocks on fused kernels.

Legend: N batch, C channels, H W picture of features.
"""

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from torch import nn
from torch.nn import functional as F

from stages.models.fused import group_norm, pointwise


class FusedGroupNorm(nn.Module):
    """A group norm and perhaps the SiLU behind it."""

    def __init__(self, norm: nn.GroupNorm, *, silu: bool) -> None:
        super().__init__()
        self.norm, self.silu = norm, silu

    def forward(
        self, x: torch.Tensor, other: torch.Tensor | None = None, shift: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x (N C H W), what stands beside it (N C' H W), what is added to both first (N C + C') => (N C + C' H W)."""
        of = self.norm
        return group_norm.GroupNorm.apply(x, other, shift, of.weight, of.bias, of.num_groups, of.eps, self.silu)


class FrozenConv2d(torch.autograd.Function):
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


def linear_1x1(layer: nn.Conv2d | nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """A linear layer or 1 x 1 convolution, x (... C) => (... C'): as a matrix product its bias costs no pass."""
    return F.linear(x, layer.weight.flatten(1), layer.bias)


class ConcatLinear(torch.autograd.Function):
    """x (... C), other (... C'), a frozen weight (E C + C') and bias => a linear layer of both side by side (... E)."""

    @staticmethod
    def forward(ctx, x, other, weight, bias):
        ours, theirs = weight.split((x.shape[-1], other.shape[-1]), 1)
        ctx.save_for_backward(ours, theirs)
        y = F.linear(x, ours, bias)
        y.flatten(0, -2).addmm_(other.flatten(0, -2), theirs.t())
        return y

    @staticmethod
    def backward(ctx, dy):
        return *(dy @ weight for weight in ctx.saved_tensors), None, None


class FusedResnetBlock(nn.Module):
    """A residual block: the convolutions' biases and the time's shift are added within the kernels beside them."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.before, self.between = FusedGroupNorm(block.norm1, silu=True), FusedGroupNorm(block.norm2, silu=True)
        self.first, self.second, self.time = block.conv1, block.conv2, block.time_emb_proj
        self.shortcut = block.conv_shortcut

    def forward(self, x: torch.Tensor, time: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """x (N C H W), embedded timesteps (N E), what stands beside x (N C' H W) or None => (N C" H W)."""
        shift = self.time(F.silu(time)) + self.first.bias
        hidden = FrozenConv2d.apply(self.before(x, other), self.first.weight, self.first.padding)
        hidden = FrozenConv2d.apply(self.between(hidden, shift=shift), self.second.weight, self.second.padding)
        if self.shortcut is not None:
            x = x.permute(0, 2, 3, 1)
            if other is None:
                x = linear_1x1(self.shortcut, x)
            else:
                weight = self.shortcut.weight.flatten(1)
                x = ConcatLinear.apply(x, other.permute(0, 2, 3, 1), weight, self.shortcut.bias)
            x = x.permute(0, 3, 1, 2)
        return pointwise.ResidualAdd.apply(x, hidden, self.second.bias)


class FusedUpBlock(nn.Module):
    """Residual blocks, transformers between them if there are any, on the way up: each gets what the way down left for
    it beside what comes from below, and nothing is copied to bring the two together."""

    gradient_checkpointing = False  # diffusers' `enable_gradient_checkpointing` sets it, and the function below

    def __init__(self, block: CrossAttnUpBlock2D | UpBlock2D) -> None:
        super().__init__()
        self.resnets, self.upsamplers = block.resnets, block.upsamplers
        self.has_cross_attention = isinstance(block, CrossAttnUpBlock2D)
        self.attentions = block.attentions if self.has_cross_attention else [None] * len(block.resnets)

    def forward(
        self,
        hidden_states: torch.Tensor,
        res_hidden_states_tuple: tuple[torch.Tensor, ...],
        temb: torch.Tensor,
        encoder_hidden_states: torch.Tensor | tuple[torch.Tensor, ...] | None = None,
        upsample_size: int | None = None,
        **_: object,
    ) -> torch.Tensor:
        """from below (N C H W), from the way down, embedded timesteps, the caption => (N C' H' W')."""
        x = hidden_states
        for resnet, attention, left in zip(
            self.resnets, self.attentions, reversed(res_hidden_states_tuple), strict=True
        ):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(resnet, x, temb, left)
            else:
                x = resnet(x, temb, left)
            if attention is not None:
                x = attention(x, encoder_hidden_states=encoder_hidden_states, return_dict=False)[0]
        for upsampler in self.upsamplers or ():
            x = upsampler(x, upsample_size)
        return x
