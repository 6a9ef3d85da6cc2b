"""Attention functions on packed queries, keys and values: the fused kernels, PyTorch's, or xformers'.

Self-attention takes the output of one linear layer, qkv (B M 3 H D); cross-attention takes q (B M H D) and kv
(B N 2 H D). Gradients are packed in the same way, so no pass over memory splits or concatenates them.

Legend: B batch, M queries, N keys, H heads, D head dimension, L tokens of a caption, E width.
"""

from collections.abc import Callable

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import nn
from torch.nn import functional as F

from stages.models.fused.flash_attention import LARGE, SMALL, FlashAttention, unpack_qkv
from stages.models.fused.linear import concat_weights

LARGE_SHARED_MEMORY = 160 * 1024  # bytes of shared memory per block that LARGE needs

# Takes qkv and None, or q and kv; returns the output (B M H D).
AttentionFunction = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]


def deterministic(q_or_qkv: torch.Tensor, kv: torch.Tensor | None) -> torch.Tensor:
    """Compute attention by the project's kernel, whose gradients are the same bytes every time.

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


def max_head_dim(device: torch.device) -> int:
    """Return the largest head dimension of attention that the project's kernel computes on a device."""
    if device.type != "cuda":
        return LARGE
    available = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
    return LARGE if available >= LARGE_SHARED_MEMORY else SMALL


class CrossAttentionKV(nn.Module):
    """Compute the cross-attention keys and values of all transformer blocks by one matrix product."""

    def __init__(self, blocks: list[BasicTransformerBlock]) -> None:
        super().__init__()
        weights = [concat_weights(block.attn2.to_k, block.attn2.to_v) for block in blocks]
        self.weight = nn.Parameter(torch.cat(weights), requires_grad=False)
        self._sizes = [len(weight) for weight in weights]

    def forward(self, context: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return each block's cross-attention keys and values, packed (B L 2E'), for encoded captions (B L E)."""
        return F.linear(context, self.weight).split(self._sizes, -1)
