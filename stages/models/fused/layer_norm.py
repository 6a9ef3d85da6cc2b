"""Residual addition and the layer norm after it, in one pass over memory, forward and backward.

The backward pass adds the gradient of the residual stream and the gradient through the norm in the same pass.

Legend: E width of a token, PADDED the power of two at or above E, ROWS tokens of one program.
"""

import torch
import triton
import triton.language as tl
from torch import nn

TILE, WARPS = 4096, 4  # TILE is ROWS x PADDED


@triton.jit
def _add_layer_norm_forward(
    a, b, weight, bias, stream, y, moments, rows, width, eps: tl.constexpr,
    PADDED: tl.constexpr, ROWS: tl.constexpr, ADDED: tl.constexpr,
):  # fmt: skip
    """Store the sum of some tokens, its mean and reciprocal standard deviation, and its layer norm."""
    row, lane = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, PADDED)
    keep = lane < width
    inside, offset = (row < rows)[:, None] & keep[None, :], row[:, None] * width + lane[None, :]
    value = tl.load(a + offset, inside, other=0.0).to(tl.float32)
    if ADDED:
        value += tl.load(b + offset, inside, other=0.0).to(tl.float32)
        value = value.to(stream.dtype.element_ty).to(tl.float32)
        tl.store(stream + offset, value, inside)
    mean = tl.sum(value, 1) / width
    centred = tl.where(inside, value - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / width + eps)
    tl.store(moments + 2 * row, mean, row < rows)
    tl.store(moments + 2 * row + 1, rstd, row < rows)
    gamma = tl.load(weight + lane, keep, other=0.0).to(tl.float32)[None, :]
    beta = tl.load(bias + lane, keep, other=0.0).to(tl.float32)[None, :]
    tl.store(y + offset, centred * rstd[:, None] * gamma + beta, inside)


@triton.jit
def _add_layer_norm_backward(
    stream, weight, moments, d_stream, dy, dx, rows, width, PADDED: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """Store the gradient of the sum of some tokens: through the norm, plus `d_stream`."""
    row, lane = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, PADDED)
    keep = lane < width
    inside, offset = (row < rows)[:, None] & keep[None, :], row[:, None] * width + lane[None, :]
    mean = tl.load(moments + 2 * row, row < rows, other=0.0)[:, None]
    rstd = tl.load(moments + 2 * row + 1, row < rows, other=0.0)[:, None]
    value = (tl.load(stream + offset, inside, other=0.0).to(tl.float32) - mean) * rstd
    gamma = tl.load(weight + lane, keep, other=0.0).to(tl.float32)[None, :]
    grad = tl.load(dy + offset, inside, other=0.0).to(tl.float32) * gamma
    mean_grad = tl.sum(grad, 1)[:, None] / width
    mean_grad_value = tl.sum(grad * value, 1)[:, None] / width
    grad = rstd * (grad - mean_grad - value * mean_grad_value)
    grad = grad + tl.load(d_stream + offset, inside, other=0.0).to(tl.float32)
    tl.store(dx + offset, grad, inside)


class AddLayerNorm(torch.autograd.Function):
    """Compute the sum of a (... E) and b (... E) or None, and the sum's layer norm, both (... E).

    The norm's weight and bias are frozen and get no gradient.
    """

    @staticmethod
    def forward(ctx, a, b, weight, bias, eps):
        a, b = a.contiguous(), None if b is None else b.contiguous()
        stream, y = a if b is None else torch.empty_like(a), torch.empty_like(a)
        ctx.grid, ctx.sizes, ctx.constants = _launch_config(a)
        moments = a.new_empty((ctx.sizes[0], 2), dtype=torch.float32)
        pointers = (a, a if b is None else b, weight, bias, stream, y, moments)
        _add_layer_norm_forward[ctx.grid](*pointers, *ctx.sizes, eps, **ctx.constants, ADDED=b is not None)
        ctx.save_for_backward(stream, weight, moments)
        return stream, y

    @staticmethod
    def backward(ctx, d_stream, dy):
        stream, weight, moments = ctx.saved_tensors
        dx = torch.empty_like(stream)
        pointers = (stream, weight, moments, d_stream.contiguous(), dy.contiguous(), dx)
        _add_layer_norm_backward[ctx.grid](*pointers, *ctx.sizes, **ctx.constants)
        return dx, dx if ctx.needs_input_grad[1] else None, None, None, None


class FusedAddLayerNorm(nn.Module):
    """Add a residual and apply a frozen layer norm to the sum."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x + residual and its layer norm, all (... E)."""
        return AddLayerNorm.apply(x, residual, self.norm.weight, self.norm.bias, self.norm.eps)


def _launch_config(x: torch.Tensor) -> tuple[tuple[int], tuple[int, int], dict]:
    """Return the grid, the number and width of the tokens of x (... E), and the constants of the kernels."""
    width = x.shape[-1]
    tokens, padded = x.numel() // width, triton.next_power_of_2(width)
    rows = max(1, TILE // padded)
    return (triton.cdiv(tokens, rows),), (tokens, width), {"PADDED": padded, "ROWS": rows, "num_warps": WARPS}
