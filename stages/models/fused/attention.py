"""Attention whose backward pass gives the same bytes every time, without the price of a library's strict mode.

Flash attention (Dao 2023): what a softmax needs is kept for every query, and its weights are computed again in the
backward pass. There one kernel goes over the queries for every key, another over the keys for every query; no two
programs add to the same number, so the order of every sum is fixed.

Legend: B batch, M queries, N keys, H heads, D width of a head.
"""

import torch
import triton
import triton.language as tl

LOG2E = 1.4426950408889634
# Blocks of queries and keys: the fastest of 24 on an H200. They decide the order of the sums, so none is searched for.
FORWARD = {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 3}
KEYS = {"BM": 128, "BN": 64, "num_warps": 4, "num_stages": 2}
QUERIES = {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 3}
WIDEST = 64  # of a head: a wider one is cheaper in the library's kernels


@triton.jit
def _tile(x, row, rows, lane, stride, D: tl.constexpr):
    """=> rows of a head (R D), zeros beyond the last row and the last lane."""
    inside = (row < rows)[:, None] & (lane < D)[None, :]
    return tl.load(x + row[:, None] * stride + lane[None, :], inside, other=0.0)


@triton.jit
def _attention_forward(
    q, k, v, o, lse, scale: tl.constexpr, queries, keys, heads, qb, qm, kb, kn, vb, vn,
    D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A block of queries of one head: their weighted sums of values, and the logarithm of their weights' sum."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    q, k, v = q + sample * qb + head * D, k + sample * kb + head * D, v + sample * vb + head * D
    o += sample.to(tl.int64) * queries * heads * D + head * D
    row, lane = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, PADDED)
    query = _tile(q, row, queries, lane, qm, D)
    most, total = tl.full((BM,), float("-inf"), tl.float32), tl.zeros((BM,), tl.float32)
    out = tl.zeros((BM, PADDED), tl.float32)
    for first in range(0, keys, BN):
        column = first + tl.arange(0, BN)
        score = tl.dot(query, tl.trans(_tile(k, column, keys, lane, kn, D))) * scale
        if keys % BN:
            score = tl.where((column < keys)[None, :], score, float("-inf"))
        peak = tl.maximum(most, tl.max(score, 1))
        weight, fade = tl.exp2(score - peak[:, None]), tl.exp2(most - peak)
        total = total * fade + tl.sum(weight, 1)
        value = _tile(v, column, keys, lane, vn, D)
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
    queries, keys, heads, qb, qm, kb, kn, vb, vn,
    D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A block of keys of one head, over all queries: the slopes along keys and values."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    q, k, v = q + sample * qb + head * D, k + sample * kb + head * D, v + sample * vb + head * D
    do += sample.to(tl.int64) * queries * heads * D + head * D
    lse, delta = lse + tl.program_id(1) * queries, delta + tl.program_id(1) * queries
    column, lane = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, PADDED)
    key, value = _tile(k, column, keys, lane, kn, D), _tile(v, column, keys, lane, vn, D)
    to_key, to_value = tl.zeros((BN, PADDED), tl.float32), tl.zeros((BN, PADDED), tl.float32)
    for first in range(0, queries, BM):
        row = first + tl.arange(0, BM)
        query, slope = _tile(q, row, queries, lane, qm, D), _tile(do, row, queries, lane, heads * D, D)
        sums = tl.load(lse + row, row < queries, other=0.0)
        weight = tl.exp2(tl.dot(key, tl.trans(query)) * scale - sums[None, :])
        to_value = tl.dot(weight.to(slope.dtype), slope, to_value)
        overlap = tl.load(delta + row, row < queries, other=0.0)
        steep = weight * (tl.dot(value, tl.trans(slope)) - overlap[None, :])
        to_key = tl.dot(steep.to(query.dtype), query, to_key)
    start = sample.to(tl.int64) * keys * heads * D + head * D
    place = column[:, None] * (heads * D) + lane[None, :]
    inside = (column < keys)[:, None] & (lane < D)[None, :]
    tl.store(dk + start + place, to_key * factor, inside)
    tl.store(dv + start + place, to_value, inside)


@triton.jit
def _attention_queries(
    q, k, v, do, lse, delta, dq, scale: tl.constexpr, factor: tl.constexpr,
    queries, keys, heads, qb, qm, kb, kn, vb, vn,
    D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A block of queries of one head, over all keys: the slopes along the queries."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    q, k, v = q + sample * qb + head * D, k + sample * kb + head * D, v + sample * vb + head * D
    start = sample.to(tl.int64) * queries * heads * D + head * D
    row, lane = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, PADDED)
    query, slope = _tile(q, row, queries, lane, qm, D), _tile(do + start, row, queries, lane, heads * D, D)
    sums = tl.load(lse + tl.program_id(1) * queries + row, row < queries, other=0.0)
    overlap = tl.load(delta + tl.program_id(1) * queries + row, row < queries, other=0.0)
    to_query = tl.zeros((BM, PADDED), tl.float32)
    for first in range(0, keys, BN):
        column = first + tl.arange(0, BN)
        key, value = _tile(k, column, keys, lane, kn, D), _tile(v, column, keys, lane, vn, D)
        weight = tl.exp2(tl.dot(query, tl.trans(key)) * scale - sums[:, None])
        if keys % BN:
            weight = tl.where((column < keys)[None, :], weight, 0.0)
        steep = weight * (tl.dot(slope, tl.trans(value)) - overlap[:, None])
        to_query = tl.dot(steep.to(key.dtype), key, to_query)
    inside = (row < queries)[:, None] & (lane < D)[None, :]
    tl.store(dq + start + row[:, None] * (heads * D) + lane[None, :], to_query * factor, inside)


class Attention(torch.autograd.Function):
    """q (B M H D), k (B N H D), v (B N H D), half precision => softmax(q k / sqrt(D)) v (B M H D)."""

    @staticmethod
    def forward(ctx, q, k, v):
        (batch, queries, heads, width), keys = q.shape, k.shape[1]
        ctx.shape = {"D": width, "PADDED": max(16, triton.next_power_of_2(width))}
        ctx.sizes = (queries, keys, heads, *(stride for x in (q, k, v) for stride in x.stride()[:2]))
        o = q.new_empty(q.shape)
        lse = q.new_empty((batch * heads, queries), dtype=torch.float32)
        grid = (triton.cdiv(queries, FORWARD["BM"]), batch * heads)
        _attention_forward[grid](q, k, v, o, lse, LOG2E / width**0.5, *ctx.sizes, **ctx.shape, **FORWARD)
        ctx.save_for_backward(q, k, v, o, lse)
        return o

    @staticmethod
    def backward(ctx, do):
        q, k, v, o, lse = ctx.saved_tensors
        (batch, queries, heads, width), keys = q.shape, k.shape[1]
        do, delta = do.contiguous(), torch.empty_like(lse)
        dq, dk, dv = q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
        _attention_overlap[triton.cdiv(queries, 64), batch * heads](o, do, delta, queries, heads, **ctx.shape, BM=64)
        common = (LOG2E / width**0.5, width**-0.5, *ctx.sizes)
        grid = (triton.cdiv(keys, KEYS["BN"]), batch * heads)
        _attention_keys[grid](q, k, v, do, lse, delta, dk, dv, *common, **ctx.shape, **KEYS)
        grid = (triton.cdiv(queries, QUERIES["BM"]), batch * heads)
        _attention_queries[grid](q, k, v, do, lse, delta, dq, *common, **ctx.shape, **QUERIES)
        return dq, dk, dv
