"""Group normalisation, with what stands around it in a residual block, in one pass over channels-last memory.

PyTorch's own kernel works on channels-first memory: it copies what the convolutions before and after it keep
channels-last. Here nothing is copied, and only the input is kept for the backward pass. Where the input is two pictures
whose channels stand side by side, they are read from where they are, and their slopes written apart.

Legend: N batch, C channels, H W picture, G groups.
"""

import torch
import triton
import triton.language as tl

TILE, WARPS = 8192, 32  # of one program, measured on an H200: much in flight hides the memory's latency
LAST = torch.channels_last


@triton.jit
def _values(
    x, other, shift, row, channel, keep, size, channels, own, SHIFTED: tl.constexpr, PAIRED: tl.constexpr
):  # fmt: skip
    """=> the input of the norm, float32: x or, from channel `own` on, the other; and the shift of every channel."""
    inside = (row < size)[:, None] & keep[None, :]
    if PAIRED:
        ours, theirs = inside & (channel < own)[None, :], inside & (channel >= own)[None, :]
        value = tl.load(x + row[:, None] * own + channel[None, :], ours, other=0.0).to(tl.float32)
        behind = row[:, None] * (channels - own) + (channel - own)[None, :]
        value += tl.load(other + behind, theirs, other=0.0).to(tl.float32)
    else:
        value = tl.load(x + row[:, None] * channels + channel[None, :], inside, other=0.0).to(tl.float32)
    if SHIFTED:
        value += tl.load(shift + channel, keep, other=0.0).to(tl.float32)[None, :]
    return value, inside


@triton.jit
def _norm_forward(
    x, other, shift, weight, bias, y, moments, size, channels, own, eps: tl.constexpr,
    GROUP: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
    SHIFTED: tl.constexpr, PAIRED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """One program a group of a sample: mean and deviation, then the normalised values."""
    group, sample = tl.program_id(0), tl.program_id(1)
    start = sample.to(tl.int64) * size
    x, other, y = x + start * own, other + start * (channels - own), y + start * channels
    shift += sample * channels
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, PADDED)
    channel, keep = group * GROUP + lanes, lanes < GROUP
    # Sums of differences from one of the values, so that a large mean cancels no digits.
    leader = group * GROUP
    origin = tl.load(x + leader, leader < own, other=0.0).to(tl.float32)
    if PAIRED:
        origin += tl.load(other + leader - own, leader >= own, other=0.0).to(tl.float32)
    total, squares = tl.zeros((ROWS, PADDED), tl.float32), tl.zeros((ROWS, PADDED), tl.float32)
    for first in range(0, size, ROWS):
        value, inside = _values(x, other, shift, first + rows, channel, keep, size, channels, own, SHIFTED, PAIRED)
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
        value, inside = _values(x, other, shift, row, channel, keep, size, channels, own, SHIFTED, PAIRED)
        value = (value - mean) * scale * gain + offset
        if SILU:
            value *= tl.sigmoid(value)
        tl.store(y + row[:, None] * channels + channel[None, :], value, inside)


@triton.jit
def _slopes(
    x, other, shift, dy, row, channel, keep, size, channels, own, mean, scale, gain, offset,
    SHIFTED: tl.constexpr, PAIRED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """=> normalised values, and the loss's slope along them."""
    value, inside = _values(x, other, shift, row, channel, keep, size, channels, own, SHIFTED, PAIRED)
    value = tl.where(inside, (value - mean) * scale, 0.0)
    slope = tl.load(dy + row[:, None] * channels + channel[None, :], inside, other=0.0).to(tl.float32)
    if SILU:
        out = value * gain + offset
        gate = tl.sigmoid(out)
        slope *= gate * (1 + out * (1 - gate))
    return value, slope * gain, inside


@triton.jit
def _norm_backward(
    x, other, shift, weight, bias, moments, dy, dx, dother, size, channels, own,
    GROUP: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
    SHIFTED: tl.constexpr, PAIRED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """One program a group of a sample: two means of slopes, then the slope along the input."""
    group, sample = tl.program_id(0), tl.program_id(1)
    start = sample.to(tl.int64) * size
    x, dx, dy = x + start * own, dx + start * own, dy + start * channels
    other, dother = other + start * (channels - own), dother + start * (channels - own)
    shift += sample * channels
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, PADDED)
    channel, keep = group * GROUP + lanes, lanes < GROUP
    place = 2 * (sample * tl.num_programs(0) + group)
    mean, scale = tl.load(moments + place), tl.load(moments + place + 1)
    gain = tl.load(weight + channel, keep, other=0.0).to(tl.float32)[None, :]
    offset = tl.load(bias + channel, keep, other=0.0).to(tl.float32)[None, :]
    total, along = tl.zeros((ROWS, PADDED), tl.float32), tl.zeros((ROWS, PADDED), tl.float32)
    for first in range(0, size, ROWS):
        value, slope, inside = _slopes(
            x, other, shift, dy, first + rows, channel, keep, size, channels, own, mean, scale, gain, offset,
            SHIFTED, PAIRED, SILU,
        )  # fmt: skip
        total += slope
        along += slope * value
    count = size * GROUP
    total, along = tl.sum(total) / count, tl.sum(along) / count
    for first in range(0, size, ROWS):
        row = first + rows
        value, slope, inside = _slopes(
            x, other, shift, dy, row, channel, keep, size, channels, own, mean, scale, gain, offset,
            SHIFTED, PAIRED, SILU,
        )  # fmt: skip
        slope = scale * (slope - total - value * along)
        ours = inside & (channel < own)[None, :]
        tl.store(dx + row[:, None] * own + channel[None, :], slope, ours)
        if PAIRED:
            behind = row[:, None] * (channels - own) + (channel - own)[None, :]
            tl.store(dother + behind, slope, inside & (channel >= own)[None, :])


class GroupNorm(torch.autograd.Function):
    """x (N C H W), other (N C' H W) or None, shift (N C + C') or None, the norm's weight and bias => silu(norm(both +
    shift)) (N C + C' H W), or without the silu.

    No gradient reaches shift, weight or bias: they are frozen.
    """

    @staticmethod
    def forward(ctx, x, other, shift, weight, bias, groups, eps, silu):
        x = x.contiguous(memory_format=LAST)
        other = None if other is None else other.contiguous(memory_format=LAST)
        shift = None if shift is None else shift.contiguous()
        samples, own, height, width = x.shape
        channels = own if other is None else own + other.shape[1]
        y = torch.empty((samples, channels, height, width), dtype=x.dtype, device=x.device, memory_format=LAST)
        moments = x.new_empty((samples, groups, 2), dtype=torch.float32)
        ctx.shape = _shape(channels // groups, shifted=shift is not None, paired=other is not None, silu=silu)
        ctx.sizes = (height * width, channels, own)
        inputs = (x, x if other is None else other, x if shift is None else shift)
        _norm_forward[groups, samples](*inputs, weight, bias, y, moments, *ctx.sizes, eps, **ctx.shape)
        ctx.save_for_backward(x, other, shift, weight, bias, moments)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, other, shift, weight, bias, moments = ctx.saved_tensors
        dy, dx = dy.contiguous(memory_format=LAST), torch.empty_like(x)
        dother = None if other is None else torch.empty_like(other)
        inputs = (x, x if other is None else other, x if shift is None else shift)
        outputs = (dx, dx if other is None else dother)
        _norm_backward[moments.shape[1], len(x)](*inputs, weight, bias, moments, dy, *outputs, *ctx.sizes, **ctx.shape)
        return dx, dother, None, None, None, None, None, None


def _shape(group: int, *, shifted: bool, paired: bool, silu: bool) -> dict:
    padded = triton.next_power_of_2(group)
    return {
        "GROUP": group,
        "PADDED": padded,
        "ROWS": TILE // padded,
        "SHIFTED": shifted,
        "PAIRED": paired,
        "SILU": silu,
        "num_warps": WARPS,
    }
