"""A text encoder's layers on fused kernels.

Legend: B batch, L tokens of a caption, E width.
"""

import torch
from torch import nn
from transformers.activations import QuickGELUActivation
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from stages.models.fused import pointwise
from stages.models.fused.layer_norm import AddLayerNorm


class FusedClipLayer(nn.Module):
    """A layer of CLIP's text encoder: tokens hear those before them, then each thinks for itself."""

    def __init__(self, layer: CLIPEncoderLayer) -> None:
        super().__init__()
        self.attend, self.norms = layer.self_attn, nn.ModuleList([layer.layer_norm1, layer.layer_norm2])
        self.widen, self.narrow, self.gate = layer.mlp.fc1, layer.mlp.fc2, layer.mlp.activation_fn
        if isinstance(self.gate, QuickGELUActivation):
            self.gate = FusedQuickGELU()

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **rest: object
    ) -> torch.Tensor:
        """tokens (B L E) => (B L E)."""
        x, y = self._norm(0, hidden_states, None)
        x, y = self._norm(1, x, self.attend(hidden_states=y, attention_mask=attention_mask, **rest)[0])
        return x + self.narrow(self.gate(self.widen(y)))

    def _norm(self, which: int, x: torch.Tensor, said: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        of = self.norms[which]
        return AddLayerNorm.apply(x, said, of.weight, of.bias, of.eps)


class FusedQuickGELU(nn.Module):
    """x => x sigmoid(1.702 x), the gate of OpenAI's encoder."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pointwise.QuickGELU.apply(x)
