"""Replace the modules of diffusers' UNet by fused ones that compute the same."""

from collections.abc import Callable

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel, UNet2DConditionOutput
from torch import nn

from stages.models.fused import group_norm
from stages.models.fused.attention import AttentionFunction, CrossAttentionKV
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
        self, noisy: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, return_dict: bool = False
    ) -> UNet2DConditionOutput | tuple[torch.Tensor]:
        """Predict noise or velocity from latents (N C H W), timesteps (N) and encoded captions (N L E)."""
        return self.unet(noisy, timesteps, self.cross_kv(context), return_dict=return_dict)

    def enable_gradient_checkpointing(self, function: Callable | None = None) -> None:
        """Recompute activations in the backward pass, by `function` or diffusers' default."""
        self.unet.enable_gradient_checkpointing(function)


def check(device: torch.device) -> None:
    """Run one small kernel, so that a missing compiler fails before any module is replaced."""
    x, ones = torch.randn(1, 32, 2, 2, device=device), torch.ones(32, device=device)
    group_norm.GroupNorm.apply(x, None, None, ones, ones, 2, 1e-5, True)


def fuse_unet(unet: UNet2DConditionModel, attention: AttentionFunction) -> nn.Module:
    """Replace the modules of a UNet in place, and return the module to call.

    Modules that the kernels do not cover stay as they are. Transformers are replaced all or none, because one matrix
    product computes the cross-attention keys and values of all of them.
    """
    for parent, name, resnet in _find(unet, ResnetBlock2D):
        if _is_standard_resnet(resnet):
            setattr(parent, name, FusedResnetBlock(resnet))
    if isinstance(unet.conv_norm_out, nn.GroupNorm) and isinstance(unet.conv_act, nn.SiLU):
        unet.conv_norm_out, unet.conv_act = FusedGroupNorm(unet.conv_norm_out, silu=True), nn.Identity()
    cross_kv = _fuse_transformers(unet, attention)
    for i, block in enumerate(unet.up_blocks):
        if isinstance(block, CrossAttnUpBlock2D | UpBlock2D) and all(_takes_skip(resnet) for resnet in block.resnets):
            unet.up_blocks[i] = FusedUpBlock(block)
    return unet if cross_kv is None else FusedUNet(unet, cross_kv)


def _fuse_transformers(unet: UNet2DConditionModel, attention: AttentionFunction) -> CrossAttentionKV | None:
    """Replace all transformers and return the module for their keys and values; None if any is not covered."""
    found = _find(unet, Transformer2DModel)
    if not found or unet.encoder_hid_proj is not None or not all(_is_standard_transformer(m) for *_, m in found):
        return None
    blocks: list[BasicTransformerBlock] = []
    for parent, name, model in found:
        first = len(blocks)
        blocks += model.transformer_blocks
        fused = [FusedTransformerBlock(blocks[i], i, attention) for i in range(first, len(blocks))]
        setattr(parent, name, FusedTransformer2D(model, fused))
    return CrossAttentionKV(blocks)


def _find(root: nn.Module, kind: type[nn.Module]) -> list[tuple[nn.Module, str, nn.Module]]:
    """List the modules of a class below `root`, each after its parent and its name there."""
    return [
        (parent, name, child)
        for parent in root.modules()
        for name, child in parent.named_children()
        if isinstance(child, kind)
    ]


def _is_standard_resnet(block: ResnetBlock2D) -> bool:
    return (
        block.time_embedding_norm == "default"
        and block.time_emb_proj is not None
        and not block.skip_time_act
        and block.upsample is None
        and block.downsample is None
        and isinstance(block.nonlinearity, nn.SiLU)
        and block.dropout.p == 0
        and block.output_scale_factor == 1
    )


def _takes_skip(resnet: nn.Module) -> bool:
    """Check for a shortcut: a block whose input is concatenated has more channels there than in its output."""
    return isinstance(resnet, FusedResnetBlock) and resnet.conv_shortcut is not None


def _is_standard_transformer(model: Transformer2DModel) -> bool:
    return model.is_input_continuous and all(_is_standard_block(block) for block in model.transformer_blocks)


def _is_standard_block(block: BasicTransformerBlock) -> bool:
    return (
        block.norm_type == "layer_norm"
        and block.norm_elementwise_affine
        and block.pos_embed is None
        and not block.only_cross_attention
        and not block.double_self_attention
        and not hasattr(block, "fuser")
        and isinstance(block.ff.net[0], GEGLU)
        and block.ff.net[1].p == 0
        and block.attn2 is not None
        and all(_is_standard_attention(layer) for layer in (block.attn1, block.attn2))
    )


def _is_standard_attention(layer: Attention) -> bool:
    optional = (layer.spatial_norm, layer.group_norm, layer.norm_q, layer.norm_k, layer.norm_cross, layer.to_q.bias)
    return (
        isinstance(layer.processor, AttnProcessor2_0)
        and all(part is None or part is False for part in optional)
        and not layer.residual_connection
        and layer.rescale_output_factor == 1
        and layer.to_out[1].p == 0
    )
