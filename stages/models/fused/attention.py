"""Attention on packed queries, keys and values, and the choice of its kernels.

Self-attention takes the output of one linear layer, qkv (B M 3 H D); cross-attention takes q (B M H D) and kv
(B N 2 H D). Gradients are packed in the same way, so no pass over memory splits or concatenates them.

Legend: B batch, M queries, N keys, H heads, D head dimension.
"""

from collections.abc import Callable

import torch
import triton
from torch.nn import functional as F

from stages.models.fused import attention_kernels as kernels

LOG2E = 1.4426950408889634
# Block sizes for padded head dimensions up to 64 and up to 128: the fastest of those tried on an H200. They determine
# the order of the sums, so they are not autotuned.
SMALL, LARGE = 64, 128
FORWARD_BLOCKS = {
    SMALL: {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 3},
    LARGE: {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 2},
}
DKV_BLOCKS = {
    SMALL: {"BM": 128, "BN": 64, "num_warps": 4, "num_stages": 2},
    LARGE: {"BM": 64, "BN": 64, "num_warps": 4, "num_stages": 2},
}
DQ_BLOCKS = {
    SMALL: {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 3},
    LARGE: {"BM": 64, "BN": 64, "num_warps": 4, "num_stages": 2},
}
LARGE_SHARED_MEMORY = 160 * 1024  # bytes of shared memory per block that LARGE needs
TARGET_PROGRAMS = 512  # with few keys, queries are split into chunks for up to this many programs

# Takes qkv and None, or q and kv; returns the output (B M H D).
AttentionFunction = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]


def deterministic(q_or_qkv: torch.Tensor, kv: torch.Tensor | None) -> torch.Tensor:
    """Compute attention whose gradients are the same bytes every time.

    Float32 and heads that are too large for the kernels use PyTorch's attention, which is deterministic only under
    `torch.use_deterministic_algorithms`.
    """
    if q_or_qkv.dtype.itemsize != 2 or q_or_qkv.shape[-1] > max_head_dim(q_or_qkv.device):
        return sdpa(q_or_qkv, kv)
    return FlashAttention.apply(q_or_qkv, kv)


def sdpa(q_or_qkv: torch.Tensor, kv: torch.Tensor | None) -> torch.Tensor:
    """Compute attention with PyTorch's scaled dot-product attention."""
    q, k, v = (x.transpose(1, 2) for x in unpack_qkv(q_or_qkv, kv))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def xformers(q_or_qkv: torch.Tensor, kv: torch.Tensor | None) -> torch.Tensor:
    """Compute attention with xformers."""
    from xformers.ops import memory_efficient_attention

    return memory_efficient_attention(*unpack_qkv(q_or_qkv, kv))


def unpack_qkv(q_or_qkv: torch.Tensor, kv: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """Return views of q (B M H D), k (B N H D) and v (B N H D)."""
    return q_or_qkv.unbind(2) if kv is None else (q_or_qkv, *kv.unbind(2))


def max_head_dim(device: torch.device) -> int:
    """Return the largest head dimension whose blocks fit into a device's shared memory."""
    if device.type != "cuda":
        return LARGE
    available = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
    return LARGE if available >= LARGE_SHARED_MEMORY else SMALL


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
        ctx.dims, ctx.blocks = {"D": head_dim, "PADDED": padded}, SMALL if padded <= SMALL else LARGE
        ctx.sizes = (queries, keys, heads, *q.stride()[:2], *k.stride()[:2])
        o = q.new_empty(q.shape)
        lse = q.new_empty((batch * heads, queries), dtype=torch.float32)
        blocks = FORWARD_BLOCKS[ctx.blocks]
        grid = (triton.cdiv(queries, blocks["BM"]), batch * heads)
        kernels.attention_forward[grid](q, k, v, o, lse, LOG2E / head_dim**0.5, *ctx.sizes, **ctx.dims, **blocks)
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
        kernels.attention_delta[triton.cdiv(queries, 64), batch * heads](
            o, do, delta, queries, heads, **ctx.dims, BM=64
        )
        tensors, sizes = (q, k, v, do, lse, delta), (LOG2E / head_dim**0.5, head_dim**-0.5, *ctx.sizes)
        blocks = DQ_BLOCKS[ctx.blocks]
        grid = (triton.cdiv(queries, blocks["BM"]), batch * heads)
        kernels.attention_dq[grid](*tensors, dq, *sizes, *dq.stride()[:2], **ctx.dims, **blocks)
        blocks = DKV_BLOCKS[ctx.blocks]
        key_blocks = triton.cdiv(keys, blocks["BN"])
        chunk, chunks = split_queries(queries, blocks["BM"], key_blocks * batch * heads)
        # Each chunk of queries has its own sums, which are added in a fixed order afterwards.
        sums = dkv[None] if chunks == 1 else dkv.new_empty((chunks, *dkv.shape), dtype=torch.float32)
        dk, dv = sums[0].unbind(2)
        strides = (*dk.stride()[:2], sums.stride(0))
        grid = (key_blocks, batch * heads, chunks)
        kernels.attention_dkv[grid](*tensors, dk, dv, *sizes, *strides, chunk, **ctx.dims, **blocks)
        if chunks > 1:
            dkv.copy_(sums.sum(0))
        return grads[0], None if kv is None else grads[1]
