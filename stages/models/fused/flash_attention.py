"""Flash attention (Dao 2023) with a deterministic backward pass, on packed queries, keys and values.

The forward pass stores the log-sum-exp of every query, and the backward pass recomputes the softmax weights from it.
One backward kernel loops over the queries for a block of keys, another over the keys for a block of queries. No two
programs add to the same number, so the order of every sum is fixed.

Legend: B batch, M queries, N keys, H heads, D head dimension, PADDED the power of two at or above D, BM and BN block
sizes. `lse` is the log-sum-exp in base 2, `delta` the sum of output times its gradient, both float32 (B x H, M).
`stride_qb` is the stride of q over B; the last two dimensions, H and D, are contiguous.
"""

import torch
import triton
import triton.language as tl

LOG2E = 1.4426950408889634
# (BM, BN, num_warps, num_stages) for padded head dimensions up to 64 and up to 128: the fastest of those tried on an
# H200. They determine the order of the sums, so they are not autotuned.
SMALL, LARGE = 64, 128
FORWARD_BLOCKS = {SMALL: (128, 64, 8, 3), LARGE: (128, 64, 8, 2)}
DKV_BLOCKS = {SMALL: (128, 64, 4, 2), LARGE: (64, 64, 4, 2)}
DQ_BLOCKS = {SMALL: (128, 64, 8, 3), LARGE: (64, 64, 4, 2)}
TARGET_PROGRAMS = 512  # with few keys, queries are split into chunks for up to this many programs


@triton.jit
def _load_rows(x, row, num_rows, lane, stride, D: tl.constexpr):
    """Load rows of one head for a block of flash attention, with zeros beyond the last row and the last lane."""
    inside = (row < num_rows)[:, None] & (lane < D)[None, :]
    return tl.load(x + row[:, None] * stride + lane[None, :], inside, other=0.0)


@triton.jit
def _attention_forward(
    q, k, v, o, lse, scale: tl.constexpr, num_queries, num_keys, heads, stride_qb, stride_qm, stride_kb, stride_kn,
    D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Compute the output and the log-sum-exp of a block of queries of one head."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    q, k, v = q + sample * stride_qb + head * D, k + sample * stride_kb + head * D, v + sample * stride_kb + head * D
    o += sample.to(tl.int64) * num_queries * heads * D + head * D
    row, lane = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, PADDED)
    query = _load_rows(q, row, num_queries, lane, stride_qm, D)
    row_max, row_sum = tl.full((BM,), float("-inf"), tl.float32), tl.zeros((BM,), tl.float32)
    out = tl.zeros((BM, PADDED), tl.float32)
    for first in range(0, num_keys, BN):
        column = first + tl.arange(0, BN)
        score = tl.dot(query, tl.trans(_load_rows(k, column, num_keys, lane, stride_kn, D)))
        if num_keys % BN:
            score = tl.where((column < num_keys)[None, :], score, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(score, 1) * scale)
        # Scaled here and not before, so that scaling and subtraction are one fused multiply-add.
        weight, rescale = tl.exp2(score * scale - new_max[:, None]), tl.exp2(row_max - new_max)
        row_sum = row_sum * rescale + tl.sum(weight, 1)
        value = _load_rows(v, column, num_keys, lane, stride_kn, D)
        out = tl.dot(weight.to(value.dtype), value, out * rescale[:, None])
        row_max = new_max
    inside = (row < num_queries)[:, None] & (lane < D)[None, :]
    tl.store(o + row[:, None] * (heads * D) + lane[None, :], out / row_sum[:, None], inside)
    tl.store(lse + tl.program_id(1) * num_queries + row, row_max + tl.log2(row_sum), row < num_queries)


@triton.jit
def _attention_delta(
    o, do, delta, num_queries, heads, D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr
):  # fmt: skip
    """Compute the dot product of the output and its gradient for a block of queries of one head."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    start = sample.to(tl.int64) * num_queries * heads * D + head * D
    row, lane = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, PADDED)
    out = _load_rows(o + start, row, num_queries, lane, heads * D, D).to(tl.float32)
    d_out = _load_rows(do + start, row, num_queries, lane, heads * D, D).to(tl.float32)
    tl.store(delta + tl.program_id(1) * num_queries + row, tl.sum(out * d_out, 1), row < num_queries)


@triton.jit
def _attention_dkv(
    q, k, v, do, lse, delta, dk, dv, scale: tl.constexpr, factor: tl.constexpr,
    num_queries, num_keys, heads, stride_qb, stride_qm, stride_kb, stride_kn, stride_db, stride_dn, stride_dc, chunk,
    D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of a block of keys and values of one head, summed over `chunk` queries."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    q, k, v = q + sample * stride_qb + head * D, k + sample * stride_kb + head * D, v + sample * stride_kb + head * D
    do += sample.to(tl.int64) * num_queries * heads * D + head * D
    lse, delta = lse + tl.program_id(1) * num_queries, delta + tl.program_id(1) * num_queries
    column, lane = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, PADDED)
    key = _load_rows(k, column, num_keys, lane, stride_kn, D)
    value = _load_rows(v, column, num_keys, lane, stride_kn, D)
    d_key, d_value = tl.zeros((BN, PADDED), tl.float32), tl.zeros((BN, PADDED), tl.float32)
    begin = tl.program_id(2) * chunk
    for first in range(begin, tl.minimum(begin + chunk, num_queries), BM):
        row = first + tl.arange(0, BM)
        query = _load_rows(q, row, num_queries, lane, stride_qm, D)
        d_out = _load_rows(do, row, num_queries, lane, heads * D, D)
        row_lse = tl.load(lse + row, row < num_queries, other=0.0)
        weight = tl.exp2(tl.dot(key, tl.trans(query)) * scale - row_lse[None, :])
        d_value = tl.dot(weight.to(d_out.dtype), d_out, d_value)
        row_delta = tl.load(delta + row, row < num_queries, other=0.0)
        d_score = weight * (tl.dot(value, tl.trans(d_out)) - row_delta[None, :])
        d_key = tl.dot(d_score.to(query.dtype), query, d_key)
    start = tl.program_id(2).to(tl.int64) * stride_dc + sample * stride_db + head * D
    offset = column[:, None] * stride_dn + lane[None, :]
    inside = (column < num_keys)[:, None] & (lane < D)[None, :]
    tl.store(dk + start + offset, d_key * factor, inside)
    tl.store(dv + start + offset, d_value, inside)


@triton.jit
def _attention_dq(
    q, k, v, do, lse, delta, dq, scale: tl.constexpr, factor: tl.constexpr,
    num_queries, num_keys, heads, stride_qb, stride_qm, stride_kb, stride_kn, stride_db, stride_dm,
    D: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of a block of queries of one head, summed over all keys."""
    sample, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    q, k, v = q + sample * stride_qb + head * D, k + sample * stride_kb + head * D, v + sample * stride_kb + head * D
    start = sample.to(tl.int64) * num_queries * heads * D + head * D
    row, lane = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, PADDED)
    query = _load_rows(q, row, num_queries, lane, stride_qm, D)
    d_out = _load_rows(do + start, row, num_queries, lane, heads * D, D)
    row_lse = tl.load(lse + tl.program_id(1) * num_queries + row, row < num_queries, other=0.0)
    row_delta = tl.load(delta + tl.program_id(1) * num_queries + row, row < num_queries, other=0.0)
    d_query = tl.zeros((BM, PADDED), tl.float32)
    for first in range(0, num_keys, BN):
        column = first + tl.arange(0, BN)
        key = _load_rows(k, column, num_keys, lane, stride_kn, D)
        value = _load_rows(v, column, num_keys, lane, stride_kn, D)
        weight = tl.exp2(tl.dot(query, tl.trans(key)) * scale - row_lse[:, None])
        if num_keys % BN:
            weight = tl.where((column < num_keys)[None, :], weight, 0.0)
        d_score = weight * (tl.dot(d_out, tl.trans(value)) - row_delta[:, None])
        d_query = tl.dot(d_score.to(key.dtype), key, d_query)
    inside = (row < num_queries)[:, None] & (lane < D)[None, :]
    tl.store(dq + sample * stride_db + head * D + row[:, None] * stride_dm + lane[None, :], d_query * factor, inside)


def unpack_qkv(q_or_qkv: torch.Tensor, kv: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """Return views of q (B M H D), k (B N H D) and v (B N H D) in the packed inputs of the flash kernels."""
    return q_or_qkv.unbind(2) if kv is None else (q_or_qkv, *kv.unbind(2))


def _blocks(sizes: tuple[int, int, int, int]) -> dict[str, int]:
    return dict(zip(("BM", "BN", "num_warps", "num_stages"), sizes, strict=True))


def split_queries(queries: int, block: int, programs: int) -> tuple[int, int]:
    """Return the number of queries in a chunk, a multiple of `block`, and the number of chunks.

    `programs` is the number of programs that compute one chunk.
    """
    chunk = block * triton.cdiv(queries, block * max(1, TARGET_PROGRAMS // programs))
    return chunk, triton.cdiv(queries, chunk)


class FlashAttention(torch.autograd.Function):
    """Compute softmax(q k^T / sqrt(D)) v (B M H D) of packed q, k, v in half precision."""

    @staticmethod
    def forward(ctx, q_or_qkv, kv):
        q, k, v = unpack_qkv(q_or_qkv, kv)
        (batch, queries, heads, head_dim), keys = q.shape, k.shape[1]
        padded = max(16, triton.next_power_of_2(head_dim))
        ctx.dims, ctx.padding = {"D": head_dim, "PADDED": padded}, SMALL if padded <= SMALL else LARGE
        ctx.sizes = (queries, keys, heads, *q.stride()[:2], *k.stride()[:2])
        o = q.new_empty(q.shape)
        lse = q.new_empty((batch * heads, queries), dtype=torch.float32)
        blocks = _blocks(FORWARD_BLOCKS[ctx.padding])
        grid = (triton.cdiv(queries, blocks["BM"]), batch * heads)
        _attention_forward[grid](q, k, v, o, lse, LOG2E / head_dim**0.5, *ctx.sizes, **ctx.dims, **blocks)
        ctx.save_for_backward(q_or_qkv, kv, o, lse)
        return o

    @staticmethod
    def backward(ctx, do):
        q_or_qkv, kv, o, lse = ctx.saved_tensors
        q, k, v = unpack_qkv(q_or_qkv, kv)
        (batch, queries, heads, head_dim), keys = q.shape, k.shape[1]
        grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q_or_qkv, kv) if x is not None]
        dq, dkv = grads[0][:, :, 0] if kv is None else grads[0], grads[-1][:, :, -2:]
        do, delta = do.contiguous(), torch.empty_like(lse)
        _attention_delta[triton.cdiv(queries, 64), batch * heads](o, do, delta, queries, heads, **ctx.dims, BM=64)
        tensors, sizes = (q, k, v, do, lse, delta), (LOG2E / head_dim**0.5, head_dim**-0.5, *ctx.sizes)
        blocks = _blocks(DQ_BLOCKS[ctx.padding])
        grid = (triton.cdiv(queries, blocks["BM"]), batch * heads)
        _attention_dq[grid](*tensors, dq, *sizes, *dq.stride()[:2], **ctx.dims, **blocks)
        blocks = _blocks(DKV_BLOCKS[ctx.padding])
        key_blocks = triton.cdiv(keys, blocks["BN"])
        chunk, chunks = split_queries(queries, blocks["BM"], key_blocks * batch * heads)
        # Each chunk of queries has its own sums, which are added in a fixed order afterwards.
        sums = dkv[None] if chunks == 1 else dkv.new_empty((chunks, *dkv.shape), dtype=torch.float32)
        dk, dv = sums[0].unbind(2)
        strides = (*dk.stride()[:2], sums.stride(0))
        grid = (key_blocks, batch * heads, chunks)
        _attention_dkv[grid](*tensors, dk, dv, *sizes, *strides, chunk, **ctx.dims, **blocks)
        if chunks > 1:
            dkv.copy_(sums.sum(0))
        return grads[0], None if kv is None else grads[1]
