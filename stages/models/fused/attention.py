"""Attention whose backward pass gives the same bytes every time, without the price of a library's strict mode.

Flash attention (Dao 2023): what a softmax needs is kept for every query, and its weights are computed again in the
backward pass. There one kernel goes over the queries for every key, another over the keys for every query; no two
programs add to the same number, so the order of every sum is fixed.

Queries, keys and values come packed as they leave one linear layer, and so do their slopes: no pass is spent on taking
them apart or putting them together.

Legend: B batch, M queries, N keys, H heads, D width of a head.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch.nn import functional as F

LOG2E = 1.4426950408889634
# Blocks of queries and keys for narrow and for wide heads: the fastest of those tried on an H200. They decide the order
# of the sums, so none is searched for.
NARROW, WIDE = 64, 128
FORWARD = {
    NARROW: {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 3},
    WIDE: {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 2},
}
KEYS = {
    NARROW: {"BM": 128, "BN": 64, "num_warps": 4, "num_stages": 2},
    WIDE: {"BM": 64, "BN": 64, "num_warps": 4, "num_stages": 2},
}
QUERIES = {
    NARROW: {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 3},
    WIDE: {"BM": 64, "BN": 64, "num_warps": 4, "num_stages": 2},
}
WIDE_NEEDS_BYTES = 160 * 1024  # of shared memory a block may have
PROGRAMS = 512  # as many are worth cutting the queries for, where there are few keys

AttentionFunction = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]


def unpack_qkv(first: torch.Tensor, second: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """(B M 3 H D) alone, or (B M H D) and (B N 2 H D) => q (B M H D), k (B N H D), v (B N H D)."""
    return first.unbind(2) if second is None else (first, *second.unbind(2))


def sdpa(first: torch.Tensor, second: torch.Tensor | None) -> torch.Tensor:
    """Packed q, k, v => what PyTorch's attention gives (B M H D)."""
    return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in unpack_qkv(first, second))).transpose(1, 2)


def xformers(first: torch.Tensor, second: torch.Tensor | None) -> torch.Tensor:
    """The same by xformers' kernels."""
    from xformers.ops import memory_efficient_attention

    return memory_efficient_attention(*unpack_qkv(first, second))


def deterministic(first: torch.Tensor, second: torch.Tensor | None) -> torch.Tensor:
    """The same by the kernels below where they serve, else by the library's, in its strict mode if that is on."""
    if first.dtype.itemsize != 2 or first.shape[-1] > max_head_dim(first.device):
        return sdpa(first, second)
    return FlashAttention.apply(first, second)


def max_head_dim(device: torch.device) -> int:
    """=> the width of the widest heads whose blocks fit into a device's shared memory."""
    if device.type != "cuda":
        return WIDE
    most = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
    return WIDE if most >= WIDE_NEEDS_BYTES else NARROW


@triton.jit
def _tile(x, row, rows, lane, stride, D: tl.constexpr):
    """=> rows of a head (R D), zeros beyond the last row and the last lane."""
    inside = (row < rows)[:, None] & (lane < D)[None, :]
    return tl.load(x + row[:, None] * stride + lane[None, :], inside, other=0.0)


@triton.jit
def _attention_forward(
    q, k, v, o, lse, scale: tl.constexpr, queries, keys, heads, qb, qm, kb, kn,
    D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A block of queries of one head: their weighted sums of values, and the logarithm of their weights' sum."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    q, k, v = q + sample * qb + head * D, k + sample * kb + head * D, v + sample * kb + head * D
    o += sample.to(tl.int64) * queries * heads * D + head * D
    row, lane = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, PADDED)
    query = _tile(q, row, queries, lane, qm, D)
    most, total = tl.full((BM,), float("-inf"), tl.float32), tl.zeros((BM,), tl.float32)
    out = tl.zeros((BM, PADDED), tl.float32)
    for first in range(0, keys, BN):
        column = first + tl.arange(0, BN)
        score = tl.dot(query, tl.trans(_tile(k, column, keys, lane, kn, D)))
        if keys % BN:
            score = tl.where((column < keys)[None, :], score, float("-inf"))
        peak = tl.maximum(most, tl.max(score, 1) * scale)
        # Scaled here, not before, so that scaling and subtracting are one instruction.
        weight, fade = tl.exp2(score * scale - peak[:, None]), tl.exp2(most - peak)
        total = total * fade + tl.sum(weight, 1)
        value = _tile(v, column, keys, lane, kn, D)
        out = tl.dot(weight.to(value.dtype), value, out * fade[:, None])
        most = peak
    inside = (row < queries)[:, None] & (lane < D)[None, :]
    tl.store(o + row[:, None] * (heads * D) + lane[None, :], out / total[:, None], inside)
    tl.store(lse + tl.program_id(1) * queries + row, most + tl.log2(total), row < queries)


@triton.jit
def _attention_overlap(
    o, do, delta, queries, heads, D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr
):  # fmt: skip
    """=> for every query, the product of what came out with the loss's slope along it."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    start = sample.to(tl.int64) * queries * heads * D + head * D
    row, lane = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, PADDED)
    out = _tile(o + start, row, queries, lane, heads * D, D).to(tl.float32)
    slope = _tile(do + start, row, queries, lane, heads * D, D).to(tl.float32)
    tl.store(delta + tl.program_id(1) * queries + row, tl.sum(out * slope, 1), row < queries)


@triton.jit
def _attention_keys(
    q, k, v, do, lse, delta, dk, dv, scale: tl.constexpr, factor: tl.constexpr,
    queries, keys, heads, qb, qm, kb, kn, db, dn, dp, part,
    D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A block of keys of one head, over `part` of the queries: the slopes along keys and values."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    q, k, v = q + sample * qb + head * D, k + sample * kb + head * D, v + sample * kb + head * D
    do += sample.to(tl.int64) * queries * heads * D + head * D
    lse, delta = lse + tl.program_id(1) * queries, delta + tl.program_id(1) * queries
    column, lane = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, PADDED)
    key, value = _tile(k, column, keys, lane, kn, D), _tile(v, column, keys, lane, kn, D)
    to_key, to_value = tl.zeros((BN, PADDED), tl.float32), tl.zeros((BN, PADDED), tl.float32)
    begin = tl.program_id(2) * part
    for first in range(begin, tl.minimum(begin + part, queries), BM):
        row = first + tl.arange(0, BM)
        query, slope = _tile(q, row, queries, lane, qm, D), _tile(do, row, queries, lane, heads * D, D)
        sums = tl.load(lse + row, row < queries, other=0.0)
        weight = tl.exp2(tl.dot(key, tl.trans(query)) * scale - sums[None, :])
        to_value = tl.dot(weight.to(slope.dtype), slope, to_value)
        overlap = tl.load(delta + row, row < queries, other=0.0)
        steep = weight * (tl.dot(value, tl.trans(slope)) - overlap[None, :])
        to_key = tl.dot(steep.to(query.dtype), query, to_key)
    start = tl.program_id(2).to(tl.int64) * dp + sample * db + head * D
    place = column[:, None] * dn + lane[None, :]
    inside = (column < keys)[:, None] & (lane < D)[None, :]
    tl.store(dk + start + place, to_key * factor, inside)
    tl.store(dv + start + place, to_value, inside)


@triton.jit
def _attention_queries(
    q, k, v, do, lse, delta, dq, scale: tl.constexpr, factor: tl.constexpr,
    queries, keys, heads, qb, qm, kb, kn, db, dn,
    D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A block of queries of one head, over all keys: the slopes along the queries."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    q, k, v = q + sample * qb + head * D, k + sample * kb + head * D, v + sample * kb + head * D
    start = sample.to(tl.int64) * queries * heads * D + head * D
    row, lane = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, PADDED)
    query, slope = _tile(q, row, queries, lane, qm, D), _tile(do + start, row, queries, lane, heads * D, D)
    sums = tl.load(lse + tl.program_id(1) * queries + row, row < queries, other=0.0)
    overlap = tl.load(delta + tl.program_id(1) * queries + row, row < queries, other=0.0)
    to_query = tl.zeros((BM, PADDED), tl.float32)
    for first in range(0, keys, BN):
        column = first + tl.arange(0, BN)
        key, value = _tile(k, column, keys, lane, kn, D), _tile(v, column, keys, lane, kn, D)
        weight = tl.exp2(tl.dot(query, tl.trans(key)) * scale - sums[:, None])
        if keys % BN:
            weight = tl.where((column < keys)[None, :], weight, 0.0)
        steep = weight * (tl.dot(slope, tl.trans(value)) - overlap[:, None])
        to_query = tl.dot(steep.to(key.dtype), key, to_query)
    inside = (row < queries)[:, None] & (lane < D)[None, :]
    tl.store(dq + sample * db + head * D + row[:, None] * dn + lane[None, :], to_query * factor, inside)


class FlashAttention(torch.autograd.Function):
    """Packed q, k, v of half precision => softmax(q k / sqrt(D)) v (B M H D)."""

    @staticmethod
    def forward(ctx, first, second):
        q, k, v = unpack_qkv(first, second)
        (batch, queries, heads, width), keys = q.shape, k.shape[1]
        padded = max(16, triton.next_power_of_2(width))
        ctx.shape, ctx.blocks = {"D": width, "PADDED": padded}, NARROW if padded <= NARROW else WIDE
        ctx.sizes = (queries, keys, heads, *q.stride()[:2], *k.stride()[:2])
        o = q.new_empty(q.shape)
        lse = q.new_empty((batch * heads, queries), dtype=torch.float32)
        blocks = FORWARD[ctx.blocks]
        grid = (triton.cdiv(queries, blocks["BM"]), batch * heads)
        _attention_forward[grid](q, k, v, o, lse, LOG2E / width**0.5, *ctx.sizes, **ctx.shape, **blocks)
        ctx.save_for_backward(first, second, o, lse)
        return o

    @staticmethod
    def backward(ctx, do):
        first, second, o, lse = ctx.saved_tensors
        packed = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (first, second) if x is not None]
        (q, k, v), dq = unpack_qkv(first, second), packed[0][:, :, 0] if second is None else packed[0]
        (batch, queries, heads, width), keys = q.shape, k.shape[1]
        do, delta = do.contiguous(), torch.empty_like(lse)
        _attention_overlap[triton.cdiv(queries, 64), batch * heads](o, do, delta, queries, heads, **ctx.shape, BM=64)
        common = (q, k, v, do, lse, delta)
        sizes = (LOG2E / width**0.5, width**-0.5, *ctx.sizes)
        blocks = QUERIES[ctx.blocks]
        grid = (triton.cdiv(queries, blocks["BM"]), batch * heads)
        _attention_queries[grid](*common, dq, *sizes, *dq.stride()[:2], **ctx.shape, **blocks)
        blocks, slopes = KEYS[ctx.blocks], packed[-1][:, :, -2:]
        tiles = triton.cdiv(keys, blocks["BN"])
        part, parts = split_queries(queries, blocks["BM"], tiles * batch * heads)
        # Where the queries are shared among programs, the programs' sums are added in their order.
        sums = slopes[None] if parts == 1 else slopes.new_empty((parts, *slopes.shape), dtype=torch.float32)
        dk, dv = sums[0].unbind(2)
        grid = (tiles, batch * heads, parts)
        strides = (*dk.stride()[:2], sums.stride(0))
        _attention_keys[grid](*common, dk, dv, *sizes, *strides, part, **ctx.shape, **blocks)
        if parts > 1:
            slopes.copy_(sums.sum(0))
        return packed[0], packed[1] if second is not None else None


def split_queries(queries: int, block: int, programs: int) -> tuple[int, int]:
    """Queries, how many a program takes at once, programs that few keys leave => queries a program, programs for it."""
    part = block * triton.cdiv(queries, block * max(1, PROGRAMS // programs))
    return part, triton.cdiv(queries, part)
