"""Replacement for a layer of transformers' CLIP text encoder on fused kernels.

Legend: B batch, L tokens of a caption, E width.
"""

import torch
from torch import nn
from transformers.activations import QuickGELUActivation
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from stages.models.fused import pointwise
from stages.models.fused.layer_norm import FusedAddLayerNorm


class FusedClipLayer(CLIPEncoderLayer):
    """Replace CLIPEncoderLayer: self-attention, then feed-forward, both with pre-norm.

    It is one, too, because transformers records the hidden states of this class.
    """

    def __init__(self, layer: CLIPEncoderLayer) -> None:
        nn.Module.__init__(self)
        self.self_attn = layer.self_attn
        self.add_norm1, self.add_norm2 = FusedAddLayerNorm(layer.layer_norm1), FusedAddLayerNorm(layer.layer_norm2)
        self.fc1, self.fc2, self.activation = layer.mlp.fc1, layer.mlp.fc2, layer.mlp.activation_fn
        if isinstance(self.activation, QuickGELUActivation):
            self.activation = FusedQuickGELU()

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: object
    ) -> torch.Tensor:
        """Compute the layer's output (B L E) from its input (B L E)."""
        x, y = self.add_norm1(hidden_states)
        x, y = self.add_norm2(x, self.self_attn(hidden_states=y, attention_mask=attention_mask, **kwargs)[0])
        return x + self.fc2(self.activation(self.fc1(y)))


class FusedQuickGELU(nn.Module):
    """Replace QuickGELUActivation: x sigmoid(1.702 x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pointwise.QuickGELU.apply(x)


def fuse_text_encoder(encoder: nn.Module) -> None:
    """Replace CLIP's layers of a text encoder in place."""
    for parent in list(encoder.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, CLIPEncoderLayer):
                setattr(parent, name, FusedClipLayer(layer))
