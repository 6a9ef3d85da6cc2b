"""Elementwise kernels: activations of feed-forward layers, and the addition at the end of a residual block.

Legend: T tokens, D width, N batch, C channels, H W size of the feature map.
"""

import torch
import triton
import triton.language as tl
from torch.nn import functional as F

BLOCK = 1024
LAST = torch.channels_last


@triton.jit
def _geglu_forward(x, y, width, BLOCK: tl.constexpr):
    token, lane = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < width
    value = tl.load(x + 2 * token * width + lane, keep).to(tl.float32)
    gate = tl.load(x + 2 * token * width + width + lane, keep).to(tl.float32)
    tl.store(y + token * width + lane, value * gate * 0.5 * (1 + tl.erf(gate * 0.7071067811865476)), keep)


@triton.jit
def _geglu_backward(x, dy, dx, width, BLOCK: tl.constexpr):
    token, lane = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < width
    value = tl.load(x + 2 * token * width + lane, keep).to(tl.float32)
    gate = tl.load(x + 2 * token * width + width + lane, keep).to(tl.float32)
    grad = tl.load(dy + token * width + lane, keep).to(tl.float32)
    cdf = 0.5 * (1 + tl.erf(gate * 0.7071067811865476))
    pdf = 0.3989422804014327 * tl.exp(-0.5 * gate * gate)
    tl.store(dx + 2 * token * width + lane, grad * gate * cdf, keep)
    tl.store(dx + 2 * token * width + width + lane, grad * value * (cdf + gate * pdf), keep)


def _geglu(x: torch.Tensor) -> torch.Tensor:
    width = x.shape[-1] // 2
    y = x.new_empty((*x.shape[:-1], width))
    _geglu_forward[x.numel() // (2 * width), triton.cdiv(width, BLOCK)](x, y, width, BLOCK)
    return y


def _geglu_grad(x: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    dy, dx, width = dy.contiguous(), torch.empty_like(x), x.shape[-1] // 2
    _geglu_backward[x.numel() // (2 * width), triton.cdiv(width, BLOCK)](x, dy, dx, width, BLOCK)
    return dx


class GEGLU(torch.autograd.Function):
    """Multiply the first half of x (... T 2D) by the GELU of its second half (Shazeer 2020)."""

    @staticmethod
    def forward(ctx, x):
        x = x.contiguous()
        ctx.save_for_backward(x)
        return _geglu(x)

    @staticmethod
    def backward(ctx, dy):
        return _geglu_grad(*ctx.saved_tensors, dy)


class LinearGEGLU(torch.autograd.Function):
    """Apply a frozen linear layer, weight (2D E), to x (... T E), and GEGLU to its output.

    The backward pass computes the layer's output again, so that autograd keeps x in its place.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight, bias)
        return _geglu(F.linear(x, weight, bias))

    @staticmethod
    def backward(ctx, dy):
        x, weight, bias = ctx.saved_tensors
        return _geglu_grad(F.linear(x, weight, bias), dy) @ weight, None, None


@triton.jit
def _quick_gelu_forward(x, y, count, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + index, index < count, other=0.0).to(tl.float32)
    tl.store(y + index, value * tl.sigmoid(1.702 * value), index < count)


@triton.jit
def _quick_gelu_backward(x, dy, dx, count, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + index, index < count, other=0.0).to(tl.float32)
    grad = tl.load(dy + index, index < count, other=0.0).to(tl.float32)
    gate = tl.sigmoid(1.702 * value)
    tl.store(dx + index, grad * gate * (1 + 1.702 * value * (1 - gate)), index < count)


class QuickGELU(torch.autograd.Function):
    """Compute x sigmoid(1.702 x) for any shape."""

    @staticmethod
    def forward(ctx, x):
        x = x.contiguous()
        y = torch.empty_like(x)
        _quick_gelu_forward[(triton.cdiv(x.numel(), BLOCK),)](x, y, x.numel(), BLOCK)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        dy, dx = dy.contiguous(), torch.empty_like(x)
        _quick_gelu_backward[(triton.cdiv(x.numel(), BLOCK),)](x, dy, dx, x.numel(), BLOCK)
        return dx


@triton.jit
def _residual_add(a, b, bias, y, channels, count, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    keep = index < count
    value = tl.load(a + index, keep).to(tl.float32) + tl.load(b + index, keep).to(tl.float32)
    tl.store(y + index, value + tl.load(bias + index % channels, keep).to(tl.float32), keep)


class ResidualAdd(torch.autograd.Function):
    """Add a (N C H W), b (N C H W) and bias (C), which is frozen and gets no gradient."""

    @staticmethod
    def forward(ctx, a, b, bias):
        a, b = a.contiguous(memory_format=LAST), b.contiguous(memory_format=LAST)
        y = torch.empty_like(a)
        _residual_add[(triton.cdiv(a.numel(), BLOCK),)](a, b, bias, y, a.shape[1], a.numel(), BLOCK)
        return y

    @staticmethod
    def backward(ctx, dy):
        # A slice of channels is copied once here, or every kernel behind this one would copy it.
        dy = dy.contiguous(memory_format=LAST)
        return dy, dy, None
