"""Find the modules of diffusers' models that the fused ones cover."""

from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from stages.models.fused.resnet import FusedResnetBlock


def find_modules(root: nn.Module, kind: type[nn.Module]) -> list[tuple[nn.Module, str, nn.Module]]:
    """List the modules of a class below `root`, each after its parent and its name there."""
    return [
        (parent, name, child)
        for parent in root.modules()
        for name, child in parent.named_children()
        if isinstance(child, kind)
    ]


def is_standard_resnet(block: ResnetBlock2D) -> bool:
    """Return whether the fused kernels cover a ResNet block: it has the standard layers."""
    return (
        (block.time_embedding_norm == "default" or block.time_emb_proj is None)
        and not block.skip_time_act
        and block.upsample is None
        and block.downsample is None
        and isinstance(block.nonlinearity, nn.SiLU)
        and block.dropout.p == 0
        and block.output_scale_factor == 1
    )


def takes_skip(resnet: nn.Module) -> bool:
    """Return whether the fused kernels cover the concatenation before a ResNet block, which then has a shortcut."""
    return isinstance(resnet, FusedResnetBlock) and resnet.conv_shortcut is not None


def is_standard_transformer(model: Transformer2DModel) -> bool:
    """Return whether the fused kernels cover a transformer: all its blocks have the standard layers."""
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
