"""A sum and the layer norm of it in one pass, forwards and backwards.

Between two layers of a transformer the stream of tokens gets what the last layer said, and the next layer hears its
norm. Backwards, what reaches the stream past the layer and through it is added in the same pass, too.

Legend: R tokens of all samples, E width of a token.
"""

import torch
import triton
import triton.language as tl

TILE, WARPS = 4096, 4


@triton.jit
def _add_norm_forward(
    a, b, weight, bias, stream, y, moments, rows, width, eps: tl.constexpr,
    PADDED: tl.constexpr, ROWS: tl.constexpr, ADDED: tl.constexpr,
):  # fmt: skip
    """Some tokens: their sum, its mean and deviation, its normalised values."""
    row, lane = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, PADDED)
    keep = lane < width
    inside, place = (row < rows)[:, None] & keep[None, :], row[:, None] * width + lane[None, :]
    value = tl.load(a + place, inside, other=0.0).to(tl.float32)
    if ADDED:
        value += tl.load(b + place, inside, other=0.0).to(tl.float32)
        value = value.to(stream.dtype.element_ty).to(tl.float32)
        tl.store(stream + place, value, inside)
    mean = tl.sum(value, 1) / width
    centred = tl.where(inside, value - mean[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 1) / width + eps)
    tl.store(moments + 2 * row, mean, row < rows)
    tl.store(moments + 2 * row + 1, scale, row < rows)
    gain = tl.load(weight + lane, keep, other=0.0).to(tl.float32)[None, :]
    offset = tl.load(bias + lane, keep, other=0.0).to(tl.float32)[None, :]
    tl.store(y + place, centred * scale[:, None] * gain + offset, inside)


@triton.jit
def _add_norm_backward(
    stream, weight, moments, past, dy, dx, rows, width, PADDED: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """Some tokens: the slope along their sum, of what went past the norm and of what went through it."""
    row, lane = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, PADDED)
    keep = lane < width
    inside, place = (row < rows)[:, None] & keep[None, :], row[:, None] * width + lane[None, :]
    mean = tl.load(moments + 2 * row, row < rows, other=0.0)[:, None]
    scale = tl.load(moments + 2 * row + 1, row < rows, other=0.0)[:, None]
    value = (tl.load(stream + place, inside, other=0.0).to(tl.float32) - mean) * scale
    gain = tl.load(weight + lane, keep, other=0.0).to(tl.float32)[None, :]
    slope = tl.load(dy + place, inside, other=0.0).to(tl.float32) * gain
    total = tl.sum(slope, 1)[:, None] / width
    along = tl.sum(slope * value, 1)[:, None] / width
    slope = scale * (slope - total - value * along) + tl.load(past + place, inside, other=0.0).to(tl.float32)
    tl.store(dx + place, slope, inside)


class AddLayerNorm(torch.autograd.Function):
    """a (... E), b (... E) or None, the norm's weight and bias => a + b and its layer norm, both (... E).

    No gradient reaches weight or bias: they are frozen.
    """

    @staticmethod
    def forward(ctx, a, b, weight, bias, eps):
        a, b = a.contiguous(), None if b is None else b.contiguous()
        stream, y = a if b is None else torch.empty_like(a), torch.empty_like(a)
        ctx.grid, ctx.sizes, ctx.shape = _shape(a)
        moments = a.new_empty((ctx.sizes[0], 2), dtype=torch.float32)
        pointers = (a, a if b is None else b, weight, bias, stream, y, moments)
        _add_norm_forward[ctx.grid](*pointers, *ctx.sizes, eps, **ctx.shape, ADDED=b is not None)
        ctx.save_for_backward(stream, weight, moments)
        return stream, y

    @staticmethod
    def backward(ctx, past, dy):
        stream, weight, moments = ctx.saved_tensors
        dx = torch.empty_like(stream)
        pointers = (stream, weight, moments, past.contiguous(), dy.contiguous(), dx)
        _add_norm_backward[ctx.grid](*pointers, *ctx.sizes, **ctx.shape)
        return dx, dx if ctx.needs_input_grad[1] else None, None, None, None


def _shape(x: torch.Tensor) -> tuple[tuple[int], tuple[int, int], dict]:
    """=> the grid, tokens and width, and the constants of a kernel over the tokens of x (... E)."""
    width = x.shape[-1]
    rows, padded = x.numel() // width, triton.next_power_of_2(width)
    some = max(1, TILE // padded)
    return (triton.cdiv(rows, some),), (rows, width), {"PADDED": padded, "ROWS": some, "num_warps": WARPS}
