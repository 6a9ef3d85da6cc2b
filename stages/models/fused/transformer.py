"""Replacements for diffusers' transformers: fewer and larger matrix products, and fused kernels between them.

Legend: B batch, M tokens, L tokens of a caption, E width, N C H W feature map.
"""

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn
from torch.nn import functional as F

from stages.models.fused import pointwise
from stages.models.fused.attention import AttentionFunction
from stages.models.fused.group_norm import FusedGroupNorm
from stages.models.fused.layer_norm import FusedAddLayerNorm
from stages.models.fused.linear import concat_weights, linear_1x1

# Numbers per sample. At 1024 px SDXL's 640-wide blocks have more, and a step takes 0.34 GiB less a sample and 1 % more
# time. At 512 px no block of Stable Diffusion 1.5 has more.
LARGEST_KEPT = 2**24


class FusedTransformerBlock(nn.Module):
    """Replace BasicTransformerBlock: self-attention, cross-attention, feed-forward.

    `index` is the block's index into the tuple of cross-attention keys and values.
    """

    def __init__(self, block: BasicTransformerBlock, index: int, attention: AttentionFunction) -> None:
        super().__init__()
        self.add_norm1, self.add_norm2 = FusedAddLayerNorm(block.norm1), FusedAddLayerNorm(block.norm2)
        self.add_norm3 = FusedAddLayerNorm(block.norm3)
        qkv_weight = concat_weights(block.attn1.to_q, block.attn1.to_k, block.attn1.to_v)
        self.qkv_weight = nn.Parameter(qkv_weight, requires_grad=False)
        self.to_q, self.to_out1, self.to_out2 = block.attn2.to_q, block.attn1.to_out[0], block.attn2.to_out[0]
        self.ff_in, self.ff_out = block.ff.net[0].proj, block.ff.net[2]
        self._index, self._heads, self._attention = index, block.attn1.heads, attention

    def forward(self, x: torch.Tensor, cross_kv: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Compute the block's output (B M E) from x (B M E) and the keys and values of all cross-attentions."""
        x, y = self.add_norm1(x)
        qkv = F.linear(y, self.qkv_weight).unflatten(-1, (3, self._heads, -1))
        x, y = self.add_norm2(x, self.to_out1(self._attention(qkv, None).flatten(2)))
        kv = cross_kv[self._index].unflatten(-1, (2, self._heads, -1))
        q = self.to_q(y).unflatten(-1, (self._heads, -1))
        x, y = self.add_norm3(x, self.to_out2(self._attention(q, kv).flatten(2)))
        return x + self.ff_out(self._geglu(y))

    def _geglu(self, y: torch.Tensor) -> torch.Tensor:
        """Return the input of the feed-forward's second layer; its largest activations are not kept."""
        if y.shape[1] * self.ff_in.out_features > LARGEST_KEPT:
            return pointwise.LinearGEGLU.apply(y, self.ff_in.weight, self.ff_in.bias)
        return pointwise.GEGLU.apply(self.ff_in(y))


class FusedTransformer2D(nn.Module):
    """Replace Transformer2DModel; hidden states stay channels-last throughout."""

    gradient_checkpointing = False  # diffusers' `enable_gradient_checkpointing` sets it and the function used below

    def __init__(self, model: Transformer2DModel, blocks: list[FusedTransformerBlock]) -> None:
        super().__init__()
        self.norm, self.blocks = FusedGroupNorm(model.norm, silu=False), nn.ModuleList(blocks)
        self.proj_in, self.proj_out = model.proj_in, model.proj_out

    def forward(
        self, hidden_states: torch.Tensor, encoder_hidden_states: tuple[torch.Tensor, ...], **_: object
    ) -> tuple[torch.Tensor]:
        """Return a tuple of the output (N C H W), for hidden states (N C H W) and cross-attention keys and values."""
        height, width = hidden_states.shape[2:]
        x = linear_1x1(self.proj_in, self.norm(hidden_states).permute(0, 2, 3, 1).flatten(1, 2))
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(block, x, encoder_hidden_states)
            else:
                x = block(x, encoder_hidden_states)
        x = F.linear(x, self.proj_out.weight.flatten(1)).unflatten(1, (height, width)).permute(0, 3, 1, 2)
        return (pointwise.ResidualAdd.apply(hidden_states, x, self.proj_out.bias),)
