"""Group normalisation, with what stands around it in a residual block, in one pass over channels-last memory.

PyTorch's own kernel works on channels-first memory: it copies what the convolutions before and after it keep
channels-last. Here nothing is copied, and only the input is kept for the backward pass.

Legend: N batch, C channels, H W picture, G groups.
"""

import torch
import triton
import triton.language as tl

TILE, WARPS = 8192, 32  # of one program, measured on an H200: much in flight hides the memory's latency
LAST = torch.channels_last


@triton.jit
def _values(x, shift, row, channel, keep, size, channels, SHIFTED: tl.constexpr):
    """=> the input of the norm, float32: x, plus a number for every channel if there is one."""
    inside = (row < size)[:, None] & keep[None, :]
    value = tl.load(x + row[:, None] * channels + channel[None, :], inside, other=0.0).to(tl.float32)
    if SHIFTED:
        value += tl.load(shift + channel, keep, other=0.0).to(tl.float32)[None, :]
    return value, inside


@triton.jit
def _norm_forward(
    x, shift, weight, bias, y, moments, size, channels, eps: tl.constexpr,
    GROUP: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, SHIFTED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """One program a group of a sample: mean and deviation, then the normalised values."""
    group, sample = tl.program_id(0), tl.program_id(1)
    start = sample.to(tl.int64) * size * channels
    x, y, shift = x + start, y + start, shift + sample * channels
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, PADDED)
    channel, keep = group * GROUP + lanes, lanes < GROUP
    # Sums of differences from one of the values, so that a large mean cancels no digits.
    origin = tl.load(x + group * GROUP).to(tl.float32)
    total, squares = tl.zeros((ROWS, PADDED), tl.float32), tl.zeros((ROWS, PADDED), tl.float32)
    for first in range(0, size, ROWS):
        value, inside = _values(x, shift, first + rows, channel, keep, size, channels, SHIFTED)
        value = tl.where(inside, value - origin, 0.0)
        total += value
        squares += value * value
    count = size * GROUP
    mean = tl.sum(total) / count
    scale = tl.rsqrt(tl.sum(squares) / count - mean * mean + eps)
    mean += origin
    place = 2 * (sample * tl.num_programs(0) + group)
    tl.store(moments + place, mean)
    tl.store(moments + place + 1, scale)
    gain = tl.load(weight + channel, keep, other=0.0).to(tl.float32)[None, :]
    offset = tl.load(bias + channel, keep, other=0.0).to(tl.float32)[None, :]
    for first in range(0, size, ROWS):
        row = first + rows
        value, inside = _values(x, shift, row, channel, keep, size, channels, SHIFTED)
        value = (value - mean) * scale * gain + offset
        if SILU:
            value *= tl.sigmoid(value)
        tl.store(y + row[:, None] * channels + channel[None, :], value, inside)


@triton.jit
def _slopes(
    x, shift, dy, row, channel, keep, size, channels, mean, scale, gain, offset,
    SHIFTED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """=> normalised values, and the loss's slope along them."""
    value, inside = _values(x, shift, row, channel, keep, size, channels, SHIFTED)
    value = tl.where(inside, (value - mean) * scale, 0.0)
    slope = tl.load(dy + row[:, None] * channels + channel[None, :], inside, other=0.0).to(tl.float32)
    if SILU:
        out = value * gain + offset
        gate = tl.sigmoid(out)
        slope *= gate * (1 + out * (1 - gate))
    return value, slope * gain, inside


@triton.jit
def _norm_backward(
    x, shift, weight, bias, moments, dy, dx, size, channels,
    GROUP: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, SHIFTED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """One program a group of a sample: two means of slopes, then the slope along the input."""
    group, sample = tl.program_id(0), tl.program_id(1)
    start = sample.to(tl.int64) * size * channels
    x, dy, dx, shift = x + start, dy + start, dx + start, shift + sample * channels
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, PADDED)
    channel, keep = group * GROUP + lanes, lanes < GROUP
    place = 2 * (sample * tl.num_programs(0) + group)
    mean, scale = tl.load(moments + place), tl.load(moments + place + 1)
    gain = tl.load(weight + channel, keep, other=0.0).to(tl.float32)[None, :]
    offset = tl.load(bias + channel, keep, other=0.0).to(tl.float32)[None, :]
    total, along = tl.zeros((ROWS, PADDED), tl.float32), tl.zeros((ROWS, PADDED), tl.float32)
    for first in range(0, size, ROWS):
        value, slope, inside = _slopes(
            x, shift, dy, first + rows, channel, keep, size, channels, mean, scale, gain, offset, SHIFTED, SILU
        )
        total += slope
        along += slope * value
    count = size * GROUP
    total, along = tl.sum(total) / count, tl.sum(along) / count
    for first in range(0, size, ROWS):
        row = first + rows
        value, slope, inside = _slopes(
            x, shift, dy, row, channel, keep, size, channels, mean, scale, gain, offset, SHIFTED, SILU
        )
        tl.store(dx + row[:, None] * channels + channel[None, :], scale * (slope - total - value * along), inside)


class GroupNorm(torch.autograd.Function):
    """x (N C H W), shift (N C) or None, the norm's weight and bias => silu(norm(x + shift)), or without the silu.

    No gradient reaches shift, weight or bias: they are frozen.
    """

    @staticmethod
    def forward(ctx, x, shift, weight, bias, groups, eps, silu):
        x = x.contiguous(memory_format=LAST)
        shift = None if shift is None else shift.contiguous()
        y = torch.empty_like(x)
        moments = x.new_empty((len(x), groups, 2), dtype=torch.float32)
        size, channels = x.shape[2] * x.shape[3], x.shape[1]
        ctx.shape = _shape(channels // groups, shift is not None, silu)
        _norm_forward[groups, len(x)](
            x, x if shift is None else shift, weight, bias, y, moments, size, channels, eps, **ctx.shape
        )
        ctx.save_for_backward(x, shift, weight, bias, moments)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, shift, weight, bias, moments = ctx.saved_tensors
        dy, dx = dy.contiguous(memory_format=LAST), torch.empty_like(x)
        size, channels = x.shape[2] * x.shape[3], x.shape[1]
        _norm_backward[moments.shape[1], len(x)](
            x, x if shift is None else shift, weight, bias, moments, dy, dx, size, channels, **ctx.shape
        )
        return dx, None, None, None, None, None, None


def _shape(group: int, shifted: bool, silu: bool) -> dict:
    padded = triton.next_power_of_2(group)
    return {
        "GROUP": group,
        "PADDED": padded,
        "ROWS": TILE // padded,
        "SHIFTED": shifted,
        "SILU": silu,
        "num_warps": WARPS,
    }
