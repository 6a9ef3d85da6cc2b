"""diffusers' modules => the same, computed by fused kernels.

Legend: B batch, M tokens, H heads, D width of a head, N C H W picture of features.
"""

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn
from torch.nn import functional as F

from stages.models.fused import attention, norm, pointwise


def try_out(device: torch.device) -> None:
    """One small call, so that what cannot be built here fails before anything was exchanged."""
    x = torch.randn(1, 32, 2, 2, device=device, requires_grad=True)
    ones = torch.ones(32, device=device)
    norm.GroupNorm.apply(x, None, ones, ones, 2, 1e-5, True).sum().backward()


def fuse(denoiser: nn.Module, *, exact: bool, attend: bool, compiled: str) -> None:
    """Exchanges a denoiser's modules in place, where they are of a kind that is known here.

    `exact`: attention, too, gives the same bytes twice. `attend`: attention is ours to choose. `compiled`: which parts
    the compiler will fuse (off, regional: the transformers' blocks, full), and so are left to it.
    """
    for module in list(denoiser.modules()):
        if attend and isinstance(module, Attention) and _is_plain(module):
            module.set_processor(Processor(exact))
        for name, child in list(module.named_children()):
            if isinstance(child, GEGLU) and compiled == "off":
                setattr(module, name, Gated(child))
            elif isinstance(child, ResnetBlock2D) and _is_usual(child) and compiled != "full":
                setattr(module, name, Residual(child))
            elif isinstance(child, Transformer2DModel) and _is_spatial(child) and compiled != "full":
                setattr(module, name, Transformer(child))
    last = denoiser.conv_norm_out, denoiser.conv_act
    if isinstance(last[0], nn.GroupNorm) and isinstance(last[1], nn.SiLU) and compiled != "full":
        denoiser.conv_norm_out, denoiser.conv_act = Norm(last[0], silu=True), nn.Identity()


def _is_usual(block: ResnetBlock2D) -> bool:
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


def _is_spatial(model: Transformer2DModel) -> bool:
    return model.is_input_continuous and model.config.norm_type == "layer_norm"


def _is_plain(module: Attention) -> bool:
    unusual = (module.spatial_norm, module.group_norm, module.norm_q, module.norm_k, module.norm_cross)
    return (
        isinstance(module.processor, AttnProcessor2_0)
        and not any(unusual)
        and not module.residual_connection
        and module.rescale_output_factor == 1
        and module.to_out[1].p == 0
    )


class Norm(nn.Module):
    """A group norm and perhaps the SiLU behind it."""

    def __init__(self, norm: nn.GroupNorm, *, silu: bool) -> None:
        super().__init__()
        self.norm, self.silu = norm, silu

    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        """x (N C H W), what is added to it first (N C) => (N C H W)."""
        of = self.norm
        return norm.GroupNorm.apply(x, shift, of.weight, of.bias, of.num_groups, of.eps, self.silu)


class FrozenConvolution(torch.autograd.Function):
    """A convolution whose weight does not learn: its input need not be kept."""

    @staticmethod
    def forward(ctx, x, weight, padding):
        ctx.save_for_backward(weight)
        ctx.size, ctx.padding = x.shape, padding
        return F.conv2d(x, weight, padding=padding)

    @staticmethod
    def backward(ctx, dy):
        (weight,) = ctx.saved_tensors
        return torch.nn.grad.conv2d_input(ctx.size, weight, dy, padding=ctx.padding), None, None


def per_pixel(layer: nn.Conv2d | nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """A linear layer or 1 x 1 convolution, x (... C) => (... C'): as a matrix product its bias costs no pass."""
    return F.linear(x, layer.weight.flatten(1), layer.bias)


class Residual(nn.Module):
    """A residual block: the convolutions' biases and the time's shift are added within the kernels beside them."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.before, self.between = Norm(block.norm1, silu=True), Norm(block.norm2, silu=True)
        self.first, self.second, self.time = block.conv1, block.conv2, block.time_emb_proj
        self.shortcut = block.conv_shortcut

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """x (N C H W), embedded timesteps (N E) => (N C' H W)."""
        shift = self.time(F.silu(time)) + self.first.bias
        hidden = FrozenConvolution.apply(self.before(x), self.first.weight, self.first.padding)
        hidden = FrozenConvolution.apply(self.between(hidden, shift), self.second.weight, self.second.padding)
        if self.shortcut is not None:
            x = per_pixel(self.shortcut, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return pointwise.Sum.apply(x, hidden, self.second.bias)


class Transformer(nn.Module):
    """Transformer blocks over the pixels, which stay channels-last all the way."""

    gradient_checkpointing = False  # diffusers' `enable_gradient_checkpointing` sets it, and the function below

    def __init__(self, model: Transformer2DModel) -> None:
        super().__init__()
        self.norm, self.blocks = Norm(model.norm, silu=False), model.transformer_blocks
        self.enter, self.leave = model.proj_in, model.proj_out

    def forward(
        self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, **_: object
    ) -> tuple[torch.Tensor]:
        """pixels (N C H W), what they listen to (N L E) => (N C H W), alone in a tuple."""
        height, width = hidden_states.shape[2:]
        x = per_pixel(self.enter, self.norm(hidden_states).permute(0, 2, 3, 1).flatten(1, 2))
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(block, x, None, encoder_hidden_states)
            else:
                x = block(x, encoder_hidden_states=encoder_hidden_states)
        x = F.linear(x, self.leave.weight.flatten(1)).unflatten(1, (height, width)).permute(0, 3, 1, 2)
        return (pointwise.Sum.apply(hidden_states, x, self.leave.bias),)


class Gated(nn.Module):
    """A linear layer to twice the width, one half of which gates the other."""

    def __init__(self, layer: GEGLU) -> None:
        super().__init__()
        self.projection = layer.proj

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (B M E) => (B M E')."""
        return pointwise.Gate.apply(self.projection(x))


class Processor:
    """What a plain attention layer computes, without its divisions by one."""

    def __init__(self, exact: bool) -> None:
        self._exact = exact

    def __call__(
        self,
        layer: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        **_: object,
    ) -> torch.Tensor:
        """tokens (B M E), what they listen to or None for themselves => (B M E)."""
        heard = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            project(x).unflatten(-1, (layer.heads, -1))
            for project, x in ((layer.to_q, hidden_states), (layer.to_k, heard), (layer.to_v, heard))
        )
        if self._exact and q.shape[-1] <= attention.WIDEST and q.dtype.itemsize == 2:
            out = attention.Attention.apply(q, k, v)
        else:
            out = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
        return layer.to_out[0](out.flatten(2))
