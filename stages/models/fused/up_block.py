"""A replacement for diffusers' up blocks.

Legend: N batch, C channels, H W size of the feature map.
"""

import torch
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from torch import nn


class FusedUpBlock(nn.Module):
    """Replace CrossAttnUpBlock2D and UpBlock2D without copying hidden states to concatenate them."""

    gradient_checkpointing = False  # diffusers' `enable_gradient_checkpointing` sets it and the function used below

    def __init__(self, block: CrossAttnUpBlock2D | UpBlock2D) -> None:
        super().__init__()
        self.resnets, self.upsamplers = block.resnets, block.upsamplers
        self.has_cross_attention = isinstance(block, CrossAttnUpBlock2D)
        self.attentions = block.attentions if self.has_cross_attention else [None] * len(block.resnets)

    def forward(
        self,
        hidden_states: torch.Tensor,
        res_hidden_states_tuple: tuple[torch.Tensor, ...],
        temb: torch.Tensor,
        encoder_hidden_states: torch.Tensor | tuple[torch.Tensor, ...] | None = None,
        upsample_size: int | None = None,
        **_: object,
    ) -> torch.Tensor:
        """Compute the block's output from hidden states (N C H W) and those of the down blocks."""
        x = hidden_states
        for resnet, attention, skip in zip(
            self.resnets, self.attentions, reversed(res_hidden_states_tuple), strict=True
        ):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(resnet, x, temb, skip)
            else:
                x = resnet(x, temb, skip)
            if attention is not None:
                x = attention(x, encoder_hidden_states=encoder_hidden_states, return_dict=False)[0]
        for upsampler in self.upsamplers or ():
            x = upsampler(x, upsample_size)
        return x
