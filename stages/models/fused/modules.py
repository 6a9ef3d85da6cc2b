"""diffusers' and transformers' modules => the same, computed by fused kernels."""

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from torch import nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from stages.models.fused import group_norm
from stages.models.fused.attention import AttentionFunction
from stages.models.fused.clip import FusedClipLayer
from stages.models.fused.resnet import FusedGroupNorm, FusedResnetBlock, FusedUpBlock
from stages.models.fused.transformer import CrossAttentionKV, FusedTransformer2D, FusedTransformerBlock


def check(device: torch.device) -> None:
    """One small call, so that what cannot be built here fails before anything was exchanged."""
    x = torch.randn(1, 32, 2, 2, device=device, requires_grad=True)
    ones = torch.ones(32, device=device)
    group_norm.GroupNorm.apply(x, None, None, ones, ones, 2, 1e-5, True).sum().backward()


def fuse_unet(denoiser: nn.Module, attend: AttentionFunction) -> None:
    """Exchanges a denoiser's modules in place, where they are of a kind that is known here; `attend` is its attention.

    The transformers only all together: what their blocks hear of the caption is computed for all of them at once.
    """
    for module in list(denoiser.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ResnetBlock2D) and _is_standard_resnet(child):
                setattr(module, name, FusedResnetBlock(child))
    last = denoiser.conv_norm_out, denoiser.conv_act
    if isinstance(last[0], nn.GroupNorm) and isinstance(last[1], nn.SiLU):
        denoiser.conv_norm_out, denoiser.conv_act = FusedGroupNorm(last[0], silu=True), nn.Identity()
    transformers = [module for module in denoiser.modules() if isinstance(module, Transformer2DModel)]
    if (
        transformers
        and denoiser.encoder_hid_proj is None
        and all(_is_standard_transformer(model) for model in transformers)
    ):
        _fuse_transformers(denoiser, attend)
    for i, block in enumerate(denoiser.up_blocks):
        if isinstance(block, CrossAttnUpBlock2D | UpBlock2D) and all(_takes_skip(resnet) for resnet in block.resnets):
            denoiser.up_blocks[i] = FusedUpBlock(block)


def fuse_text_encoder(encoder: nn.Module) -> None:
    """Exchanges a text encoder's layers in place, where they are CLIP's."""
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, CLIPEncoderLayer):
                setattr(module, name, FusedClipLayer(child))


def _fuse_transformers(denoiser: nn.Module, attend: AttentionFunction) -> None:
    found: list[BasicTransformerBlock] = []
    for module in list(denoiser.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Transformer2DModel):
                blocks = [
                    FusedTransformerBlock(b, len(found) + i, attend) for i, b in enumerate(child.transformer_blocks)
                ]
                found += child.transformer_blocks
                setattr(module, name, FusedTransformer2D(child, blocks))
    denoiser.heard, plain = CrossAttentionKV(found), denoiser.forward

    def forward(noisy: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, **rest: object) -> object:
        return plain(noisy, timesteps, denoiser.heard(context), **rest)

    denoiser.forward = forward


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
    """Whether it can take two pictures: side by side they are wider than what it makes of them."""
    return isinstance(resnet, FusedResnetBlock) and resnet.shortcut is not None


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
    unusual = (layer.spatial_norm, layer.group_norm, layer.norm_q, layer.norm_k, layer.norm_cross, layer.to_q.bias)
    return (
        isinstance(layer.processor, AttnProcessor2_0)
        and all(part is None or part is False for part in unusual)
        and not layer.residual_connection
        and layer.rescale_output_factor == 1
        and layer.to_out[1].p == 0
    )
