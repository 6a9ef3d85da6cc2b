"""The denoiser's transformers on fused kernels: fewer, larger products, and no pass over memory between them.

Legend: B batch, M tokens, L tokens of a caption, E width, H heads, D width of a head, N C H W picture of features.
"""

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn
from torch.nn import functional as F

from stages.models.fused import pointwise
from stages.models.fused.attention import AttentionFunction
from stages.models.fused.layer_norm import AddLayerNorm
from stages.models.fused.resnet import FusedGroupNorm, linear_1x1


class CrossAttentionKV(nn.Module):
    """What all blocks hear of the caption, their keys and values, by one product."""

    def __init__(self, blocks: list[BasicTransformerBlock]) -> None:
        super().__init__()
        weights = [_joined(block.attn2.to_k, block.attn2.to_v) for block in blocks]
        self.weight = nn.Parameter(torch.cat(weights), requires_grad=False)
        self._sizes = [len(weight) for weight in weights]

    def forward(self, context: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The caption (B L E) => keys and values of each block (B L 2 x E')."""
        return F.linear(context, self.weight).split(self._sizes, -1)


class FusedTransformerBlock(nn.Module):
    """A transformer block: tokens hear each other, then the caption, then each thinks for itself."""

    def __init__(self, block: BasicTransformerBlock, place: int, attend: AttentionFunction) -> None:
        super().__init__()
        self.norms = nn.ModuleList([block.norm1, block.norm2, block.norm3])
        joined = _joined(block.attn1.to_q, block.attn1.to_k, block.attn1.to_v)
        self.joined = nn.Parameter(joined, requires_grad=False)
        self.ask, self.say = block.attn2.to_q, nn.ModuleList([block.attn1.to_out[0], block.attn2.to_out[0]])
        self.widen, self.narrow = block.ff.net[0].proj, block.ff.net[2]
        self._place, self._heads, self._attend = place, block.attn1.heads, attend

    def forward(self, x: torch.Tensor, heard: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """tokens (B M E), the caption as all blocks hear it => (B M E)."""
        x, y = self._norm(0, x, None)
        own = F.linear(y, self.joined).unflatten(-1, (3, self._heads, -1))
        x, y = self._norm(1, x, self.say[0](self._attend(own, None).flatten(2)))
        caption = heard[self._place].unflatten(-1, (2, self._heads, -1))
        asked = self.ask(y).unflatten(-1, (self._heads, -1))
        x, y = self._norm(2, x, self.say[1](self._attend(asked, caption).flatten(2)))
        return x + self.narrow(pointwise.GEGLU.apply(self.widen(y)))

    def _norm(self, which: int, x: torch.Tensor, said: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        of = self.norms[which]
        return AddLayerNorm.apply(x, said, of.weight, of.bias, of.eps)


class FusedTransformer2D(nn.Module):
    """Transformer blocks over the pixels, which stay channels-last all the way."""

    gradient_checkpointing = False  # diffusers' `enable_gradient_checkpointing` sets it, and the function below

    def __init__(self, model: Transformer2DModel, blocks: list[FusedTransformerBlock]) -> None:
        super().__init__()
        self.norm, self.blocks = FusedGroupNorm(model.norm, silu=False), nn.ModuleList(blocks)
        self.enter, self.leave = model.proj_in, model.proj_out

    def forward(
        self, hidden_states: torch.Tensor, encoder_hidden_states: tuple[torch.Tensor, ...], **_: object
    ) -> tuple[torch.Tensor]:
        """pixels (N C H W), the caption as all blocks hear it => (N C H W), alone in a tuple."""
        height, width = hidden_states.shape[2:]
        x = linear_1x1(self.enter, self.norm(hidden_states).permute(0, 2, 3, 1).flatten(1, 2))
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(block, x, encoder_hidden_states)
            else:
                x = block(x, encoder_hidden_states)
        x = F.linear(x, self.leave.weight.flatten(1)).unflatten(1, (height, width)).permute(0, 3, 1, 2)
        return (pointwise.ResidualAdd.apply(hidden_states, x, self.leave.bias),)


def _joined(*layers: nn.Linear) -> torch.Tensor:
    return torch.cat([layer.weight.detach() for layer in layers])
