"""A replacement for diffusers' ResnetBlock2D on fused kernels.

Legend: N batch, C channels, H W size of the feature map, E width of the timestep embedding.
"""

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn import functional as F

from stages.models.fused import pointwise
from stages.models.fused.group_norm import FusedGroupNorm
from stages.models.fused.linear import ConcatLinear, FrozenConv2d, linear_1x1


class FusedResnetBlock(nn.Module):
    """Replace ResnetBlock2D; other kernels add the biases of the convolutions and the shift of the timestep."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.norm2 = FusedGroupNorm(block.norm1, silu=True), FusedGroupNorm(block.norm2, silu=True)
        self.conv1, self.conv2, self.time_emb_proj = block.conv1, block.conv2, block.time_emb_proj
        self.conv_shortcut = block.conv_shortcut

    def forward(
        self, x: torch.Tensor, temb: torch.Tensor | None = None, skip: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the block's output from x (N C H W), temb (N E) and, in the up blocks, skip (N C' H W).

        A VAE has no timestep, and so no temb.
        """
        shift = self.conv1.bias.expand(len(x), -1)
        if temb is not None:
            shift = self.time_emb_proj(F.silu(temb)) + shift
        hidden = FrozenConv2d.apply(self.norm1(x, skip), self.conv1.weight, self.conv1.padding)
        hidden = FrozenConv2d.apply(self.norm2(hidden, shift=shift), self.conv2.weight, self.conv2.padding)
        if self.conv_shortcut is not None:
            x = x.permute(0, 2, 3, 1)
            if skip is None:
                x = linear_1x1(self.conv_shortcut, x)
            else:
                weight = self.conv_shortcut.weight.flatten(1)
                x = ConcatLinear.apply(x, skip.permute(0, 2, 3, 1), weight, self.conv_shortcut.bias)
            x = x.permute(0, 3, 1, 2)
        return pointwise.ResidualAdd.apply(x, hidden, self.conv2.bias)
