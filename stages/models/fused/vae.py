"""Replace the modules of a VAE's decoder by fused ones that compute the same."""

from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from stages.models.fused.coverage import find_modules, is_standard_resnet
from stages.models.fused.group_norm import LAST, FusedGroupNorm
from stages.models.fused.resnet import FusedResnetBlock


def fuse_decoder(vae: AutoencoderKL) -> None:
    """Replace the residual blocks and the last norm of the decoder in place; it is channels-last from then on."""
    decoder = vae.decoder.to(memory_format=LAST)
    for parent, name, resnet in find_modules(decoder, ResnetBlock2D):
        if is_standard_resnet(resnet):
            setattr(parent, name, FusedResnetBlock(resnet))
    if isinstance(decoder.conv_norm_out, nn.GroupNorm) and isinstance(decoder.conv_act, nn.SiLU):
        decoder.conv_norm_out, decoder.conv_act = FusedGroupNorm(decoder.conv_norm_out, silu=True), nn.Identity()
