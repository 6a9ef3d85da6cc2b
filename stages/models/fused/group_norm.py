"""Group norm over channels-last memory, with the additions before it and the SiLU after it, in one kernel.

PyTorch's kernel works on channels-first memory and so copies what the convolutions around it keep channels-last. Here
nothing is copied, and only the input is kept for the backward pass. In the up blocks, where the input is the
concatenation of two tensors, both are read where they are, and their gradients are written separately.

Legend: N batch, C channels, H W size of the feature map, GROUP channels of a group, PADDED the power of two at or
above it, ROWS pixels that a program loads at a time. `size` is H x W, `channels` C of the concatenation, `channels_x`
C of x.
"""

import torch
import triton
import triton.language as tl
from torch import nn

TILE, WARPS = 8192, 32  # ROWS x PADDED, measured on an H200: many loads in flight hide the latency of memory
LAST = torch.channels_last


@triton.jit
def _load_input(
    x, skip, shift, row, channel, keep, size, channels, channels_x, SHIFTED: tl.constexpr, PAIRED: tl.constexpr
):  # fmt: skip
    """Load the norm's input as float32: x, from channel `channels_x` on skip, plus the shift of each channel."""
    inside = (row < size)[:, None] & keep[None, :]
    if PAIRED:
        in_x, in_skip = inside & (channel < channels_x)[None, :], inside & (channel >= channels_x)[None, :]
        value = tl.load(x + row[:, None] * channels_x + channel[None, :], in_x, other=0.0).to(tl.float32)
        offset = row[:, None] * (channels - channels_x) + (channel - channels_x)[None, :]
        value += tl.load(skip + offset, in_skip, other=0.0).to(tl.float32)
    else:
        value = tl.load(x + row[:, None] * channels + channel[None, :], inside, other=0.0).to(tl.float32)
    if SHIFTED:
        value += tl.load(shift + channel, keep, other=0.0).to(tl.float32)[None, :]
    return value, inside


@triton.jit
def _group_norm_forward(
    x, skip, shift, weight, bias, y, moments, size, channels, channels_x, eps: tl.constexpr,
    GROUP: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
    SHIFTED: tl.constexpr, PAIRED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Store the mean, the reciprocal standard deviation and the normalised values of one group of one sample."""
    group, sample = tl.program_id(0), tl.program_id(1)
    start = sample.to(tl.int64) * size
    x, skip, y = x + start * channels_x, skip + start * (channels - channels_x), y + start * channels
    shift += sample * channels
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, PADDED)
    channel, keep = group * GROUP + lanes, lanes < GROUP
    # Sums of differences from one of the values, so that a large mean cancels no digits.
    first_channel = group * GROUP
    pivot = tl.load(x + first_channel, first_channel < channels_x, other=0.0).to(tl.float32)
    if PAIRED:
        pivot += tl.load(skip + first_channel - channels_x, first_channel >= channels_x, other=0.0).to(tl.float32)
    total, squares = tl.zeros((ROWS, PADDED), tl.float32), tl.zeros((ROWS, PADDED), tl.float32)
    for first in range(0, size, ROWS):
        row = first + rows
        value, inside = _load_input(x, skip, shift, row, channel, keep, size, channels, channels_x, SHIFTED, PAIRED)
        value = tl.where(inside, value - pivot, 0.0)
        total += value
        squares += value * value
    count = size * GROUP
    mean = tl.sum(total) / count
    rstd = tl.rsqrt(tl.sum(squares) / count - mean * mean + eps)
    mean += pivot
    index = 2 * (sample * tl.num_programs(0) + group)
    tl.store(moments + index, mean)
    tl.store(moments + index + 1, rstd)
    gamma = tl.load(weight + channel, keep, other=0.0).to(tl.float32)[None, :]
    beta = tl.load(bias + channel, keep, other=0.0).to(tl.float32)[None, :]
    for first in range(0, size, ROWS):
        row = first + rows
        value, inside = _load_input(x, skip, shift, row, channel, keep, size, channels, channels_x, SHIFTED, PAIRED)
        value = (value - mean) * rstd * gamma + beta
        if SILU:
            value *= tl.sigmoid(value)
        tl.store(y + row[:, None] * channels + channel[None, :], value, inside)


@triton.jit
def _load_grad(
    x, skip, shift, dy, row, channel, keep, size, channels, channels_x, mean, rstd, gamma, beta,
    SHIFTED: tl.constexpr, PAIRED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Load normalised values and the gradient of the loss with respect to them."""
    value, inside = _load_input(x, skip, shift, row, channel, keep, size, channels, channels_x, SHIFTED, PAIRED)
    value = tl.where(inside, (value - mean) * rstd, 0.0)
    grad = tl.load(dy + row[:, None] * channels + channel[None, :], inside, other=0.0).to(tl.float32)
    if SILU:
        out = value * gamma + beta
        gate = tl.sigmoid(out)
        grad *= gate * (1 + out * (1 - gate))
    return value, grad * gamma, inside


@triton.jit
def _group_norm_backward(
    x, skip, shift, weight, bias, moments, dy, dx, d_skip, size, channels, channels_x,
    GROUP: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
    SHIFTED: tl.constexpr, PAIRED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Store the gradient of the inputs of one group of one sample, after a first pass for its two means."""
    group, sample = tl.program_id(0), tl.program_id(1)
    start = sample.to(tl.int64) * size
    x, dx, dy = x + start * channels_x, dx + start * channels_x, dy + start * channels
    skip, d_skip = skip + start * (channels - channels_x), d_skip + start * (channels - channels_x)
    shift += sample * channels
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, PADDED)
    channel, keep = group * GROUP + lanes, lanes < GROUP
    index = 2 * (sample * tl.num_programs(0) + group)
    mean, rstd = tl.load(moments + index), tl.load(moments + index + 1)
    gamma = tl.load(weight + channel, keep, other=0.0).to(tl.float32)[None, :]
    beta = tl.load(bias + channel, keep, other=0.0).to(tl.float32)[None, :]
    sum_grad, sum_grad_value = tl.zeros((ROWS, PADDED), tl.float32), tl.zeros((ROWS, PADDED), tl.float32)
    for first in range(0, size, ROWS):
        value, grad, inside = _load_grad(
            x, skip, shift, dy, first + rows, channel, keep, size, channels, channels_x, mean, rstd, gamma, beta,
            SHIFTED, PAIRED, SILU,
        )  # fmt: skip
        sum_grad += grad
        sum_grad_value += grad * value
    count = size * GROUP
    mean_grad, mean_grad_value = tl.sum(sum_grad) / count, tl.sum(sum_grad_value) / count
    for first in range(0, size, ROWS):
        row = first + rows
        value, grad, inside = _load_grad(
            x, skip, shift, dy, row, channel, keep, size, channels, channels_x, mean, rstd, gamma, beta,
            SHIFTED, PAIRED, SILU,
        )  # fmt: skip
        grad = rstd * (grad - mean_grad - value * mean_grad_value)
        in_x = inside & (channel < channels_x)[None, :]
        tl.store(dx + row[:, None] * channels_x + channel[None, :], grad, in_x)
        if PAIRED:
            offset = row[:, None] * (channels - channels_x) + (channel - channels_x)[None, :]
            tl.store(d_skip + offset, grad, inside & (channel >= channels_x)[None, :])


class GroupNorm(torch.autograd.Function):
    """Normalise x (N C H W), concatenated with skip (N C' H W) or None, after adding shift (N C + C') or None.

    With `silu`, apply a SiLU to the result. Weight and bias are frozen and get no gradient.
    """

    @staticmethod
    def forward(ctx, x, skip, shift, weight, bias, groups, eps, silu):
        x = x.contiguous(memory_format=LAST)
        skip = None if skip is None else skip.contiguous(memory_format=LAST)
        shift = None if shift is None else shift.contiguous()
        samples, channels_x, height, width = x.shape
        channels = channels_x if skip is None else channels_x + skip.shape[1]
        y = torch.empty((samples, channels, height, width), dtype=x.dtype, device=x.device, memory_format=LAST)
        moments = x.new_empty((samples, groups, 2), dtype=torch.float32)
        ctx.constants = _constants(channels // groups, shifted=shift is not None, paired=skip is not None, silu=silu)
        ctx.sizes = (height * width, channels, channels_x)
        inputs = (x, x if skip is None else skip, x if shift is None else shift)
        _group_norm_forward[groups, samples](*inputs, weight, bias, y, moments, *ctx.sizes, eps, **ctx.constants)
        ctx.save_for_backward(x, skip, shift, weight, bias, moments)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, skip, shift, weight, bias, moments = ctx.saved_tensors
        dy, dx = dy.contiguous(memory_format=LAST), torch.empty_like(x)
        d_skip = None if skip is None else torch.empty_like(skip)
        inputs = (x, x if skip is None else skip, x if shift is None else shift)
        grads = (dy, dx, dx if skip is None else d_skip)
        grid = (moments.shape[1], len(x))
        _group_norm_backward[grid](*inputs, weight, bias, moments, *grads, *ctx.sizes, **ctx.constants)
        d_shift = None
        if ctx.needs_input_grad[2]:  # of Stable Diffusion XL, whose timestep embedding contains the pooled prompt
            d_shift = torch.cat([grad.sum((2, 3)) for grad in (dx, d_skip) if grad is not None], dim=1)
        return dx, d_skip, d_shift, None, None, None, None, None


def _constants(group: int, *, shifted: bool, paired: bool, silu: bool) -> dict:
    padded = triton.next_power_of_2(group)
    flags = {"SHIFTED": shifted, "PAIRED": paired, "SILU": silu}
    return {"GROUP": group, "PADDED": padded, "ROWS": TILE // padded, **flags, "num_warps": WARPS}


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
        return GroupNorm.apply(x, skip, shift, norm.weight, norm.bias, norm.num_groups, norm.eps, self.silu)
