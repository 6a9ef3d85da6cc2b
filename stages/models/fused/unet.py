"""Replace the modules of diffusers' UNet by fused ones that compute the same."""

from collections.abc import Callable

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel, UNet2DConditionOutput
from torch import nn

from stages.models.fused import group_norm
from stages.models.fused.attention import AttentionFunction, CrossAttentionKV
from stages.models.fused.coverage import find_modules, is_standard_resnet, is_standard_transformer, takes_skip
from stages.models.fused.group_norm import FusedGroupNorm
from stages.models.fused.resnet import FusedResnetBlock
from stages.models.fused.transformer import FusedTransformer2D, FusedTransformerBlock
from stages.models.fused.up_block import FusedUpBlock


class FusedUNet(nn.Module):
    """Call a UNet with the cross-attention keys and values of all its blocks instead of the encoded captions."""

    def __init__(self, unet: UNet2DConditionModel, cross_kv: CrossAttentionKV) -> None:
        super().__init__()
        self.unet, self.cross_kv = unet, cross_kv

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, **options: object
    ) -> UNet2DConditionOutput | tuple[torch.Tensor]:
        """Predict noise or velocity from latents (N C H W), timesteps (N) and encoded captions (N L E).

        `options` are those of diffusers' UNet, such as the other conditions of Stable Diffusion XL.
        """
        return self.unet(noisy, timesteps, self.cross_kv(context), **options)

    def enable_gradient_checkpointing(self, function: Callable | None = None) -> None:
        """Recompute the fused UNet's activations in the backward pass, by `function` or diffusers' default."""
        self.unet.enable_gradient_checkpointing(function)


def check(device: torch.device) -> None:
    """Run one small kernel, so that a missing compiler fails before any module of the UNet is replaced."""
    x, ones = torch.randn(1, 32, 2, 2, device=device), torch.ones(32, device=device)
    group_norm.GroupNorm.apply(x, None, None, ones, ones, 2, 1e-5, True)


def fuse_unet(unet: UNet2DConditionModel, attention: AttentionFunction) -> nn.Module:
    """Replace the modules of a UNet in place, and return the module to call, on the same device.

    Modules that the kernels do not cover stay as they are. Transformers are replaced all or none, because one matrix
    product computes the cross-attention keys and values of all of them.
    """
    device = unet.device
    for parent, name, resnet in find_modules(unet, ResnetBlock2D):
        if is_standard_resnet(resnet):
            setattr(parent, name, FusedResnetBlock(resnet))
    if isinstance(unet.conv_norm_out, nn.GroupNorm) and isinstance(unet.conv_act, nn.SiLU):
        unet.conv_norm_out, unet.conv_act = FusedGroupNorm(unet.conv_norm_out, silu=True), nn.Identity()
    cross_kv = _fuse_transformers(unet, attention)
    for i, block in enumerate(unet.up_blocks):
        if isinstance(block, CrossAttnUpBlock2D | UpBlock2D) and all(takes_skip(resnet) for resnet in block.resnets):
            unet.up_blocks[i] = FusedUpBlock(block)
    return (unet if cross_kv is None else FusedUNet(unet, cross_kv)).to(device)


def _fuse_transformers(unet: UNet2DConditionModel, attention: AttentionFunction) -> CrossAttentionKV | None:
    """Fuse the UNet's transformers and return the module for their keys and values; None if any is not covered."""
    found = find_modules(unet, Transformer2DModel)
    if not found or unet.encoder_hid_proj is not None or not all(is_standard_transformer(m) for *_, m in found):
        return None
    blocks: list[BasicTransformerBlock] = []
    for parent, name, model in found:
        first = len(blocks)
        blocks += model.transformer_blocks
        fused = [FusedTransformerBlock(blocks[i], i, attention) for i in range(first, len(blocks))]
        setattr(parent, name, FusedTransformer2D(model, fused))
    return CrossAttentionKV(blocks)
