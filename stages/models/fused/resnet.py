"""Replacements for diffusers' ResnetBlock2D and up blocks on fused kernels.

Legend: N batch, C channels, H W size of the feature map, E width of the timestep embedding.
"""

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from torch import nn
from torch.nn import functional as F

from stages.models.fused import group_norm, pointwise


class FusedGroupNorm(nn.Module):
    """Apply a group norm and, if `silu`, the SiLU after it."""

    def __init__(self, norm: nn.GroupNorm, *, silu: bool) -> None:
        super().__init__()
        self.norm, self.silu = norm, silu

    def forward(
        self, x: torch.Tensor, skip: torch.Tensor | None = None, shift: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Normalise x (N C H W), concatenated with skip (N C' H W), after adding shift (N C + C')."""
        norm = self.norm
        return group_norm.GroupNorm.apply(x, skip, shift, norm.weight, norm.bias, norm.num_groups, norm.eps, self.silu)


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


class FusedResnetBlock(nn.Module):
    """Replace ResnetBlock2D; other kernels add the biases of the convolutions and the shift of the timestep."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.norm2 = FusedGroupNorm(block.norm1, silu=True), FusedGroupNorm(block.norm2, silu=True)
        self.conv1, self.conv2, self.time_emb_proj = block.conv1, block.conv2, block.time_emb_proj
        self.conv_shortcut = block.conv_shortcut

    def forward(self, x: torch.Tensor, temb: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the block's output from x (N C H W), temb (N E) and, in the up blocks, skip (N C' H W)."""
        shift = self.time_emb_proj(F.silu(temb)) + self.conv1.bias
        hidden = FrozenConv2d.apply(self.norm1(x, skip), self.conv1.weight, self.conv1.padding)
        hidden = FrozenConv2d.apply(self.norm2(hidden, shift=shift), self.conv2.weight, self.conv2.padding)
        if self.conv_shortcut is not None:
            x = x.permute(0, 2, 3, 1)
            if skip is None:
                x = linear_1x1(self.conv_shortcut, x)
            else:
                weight = self.conv_shortcut.weight.flatten(1)
                x = ConcatLinear.apply(x, skip.permute(0, 2, 3, 1), weight, self.conv_shortcut.bias)
            x = x.permute(0, 3, 1, 2)
        return pointwise.ResidualAdd.apply(x, hidden, self.conv2.bias)


class FusedUpBlock(nn.Module):
    """Replace CrossAttnUpBlock2D and UpBlock2D without copying hidden states to concatenate them."""

    gradient_checkpointing = False  # diffusers' `enable_gradient_checkpointing` sets it and the function used below

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
        """Compute the block's output from hidden states (N C H W) and those of the down blocks."""
        x = hidden_states
        for resnet, attention, skip in zip(
            self.resnets, self.attentions, reversed(res_hidden_states_tuple), strict=True
        ):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(resnet, x, temb, skip)
            else:
                x = resnet(x, temb, skip)
            if attention is not None:
                x = attention(x, encoder_hidden_states=encoder_hidden_states, return_dict=False)[0]
        for upsampler in self.upsamplers or ():
            x = upsampler(x, upsample_size)
        return x
