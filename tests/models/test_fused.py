"""Fused kernels and modules compute what PyTorch's compute: on a GPU compiled, else in Triton's interpreter."""

import copy

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.activations import QuickGELUActivation

pytest.importorskip("triton", reason="Triton is installed only on Linux")

from stages.models.fused import attention, flash_attention, group_norm, layer_norm, pointwise, transformer
from stages.models.fused.clip import FusedClipLayer, fuse_text_encoder
from stages.models.fused.linear import ConcatLinear
from stages.models.fused.resnet import FusedResnetBlock
from stages.models.fused.transformer import FusedTransformer2D, FusedTransformerBlock
from stages.models.fused.unet import FusedUNet, check, fuse_unet
from stages.models.fused.up_block import FusedUpBlock
from stages.models.fused.vae import fuse_decoder

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAST = torch.channels_last


@pytest.fixture(autouse=True)
def float32_convolutions(monkeypatch: pytest.MonkeyPatch):
    """Turn off TF32, which PyTorch uses for convolutions by default, but not for matrix products."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def distance(x: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the distance of two tensors relative to the norm of the reference."""
    x, reference = x.detach().float(), reference.detach().float()
    return float((x - reference).norm() / reference.norm())


def assert_close(fused, reference, inputs, grads, *, tolerance=1e-5, grad_tolerance=None) -> None:
    """Compare outputs, and the gradients with respect to the inputs for given gradients of the outputs."""
    grad_tolerance = grad_tolerance or tolerance
    fused, reference, grads = (x if isinstance(x, tuple) else (x,) for x in (fused, reference, grads))
    assert all(distance(x, y) < tolerance for x, y in zip(fused, reference, strict=True))
    d_fused, d_reference = (torch.autograd.grad(y, inputs, grads) for y in (fused, reference))
    assert all(distance(x, y) < grad_tolerance for x, y in zip(d_fused, d_reference, strict=True))


@pytest.mark.parametrize(("channels", "groups"), [(20, 2), (32, 4), (12, 4), (96, 1)])
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize("channels_x", [None, 7])
def test_group_norm_equals_pytorch(channels: int, groups: int, silu: bool, shifted: bool, channels_x: int | None):
    """The mean is large, so that squares cancel; 7 channels of x split a group between x and skip."""
    x = (3 * randn(2, channels, 7, 5) + 20).contiguous(memory_format=LAST).requires_grad_()
    shift = randn(2, channels).requires_grad_() if shifted else None
    weight, bias = randn(channels), randn(channels + 1)[1:]
    inputs = (x, None) if channels_x is None else (x[:, :channels_x], x[:, channels_x:])
    fused = group_norm.GroupNorm.apply(*inputs, shift, weight, bias, groups, 1e-5, silu)
    reference = F.group_norm(x if shift is None else x + shift[:, :, None, None], groups, weight, bias, 1e-5)
    reference = F.silu(reference) if silu else reference
    assert_close(fused, reference, [x, shift] if shifted else x, randn(2, channels, 7, 5))


def test_geglu_equals_pytorch():
    x = randn(3, 5, 2 * 1030).requires_grad_()
    value, gate = x.chunk(2, -1)
    assert_close(pointwise.GEGLU.apply(x), value * F.gelu(gate), x, randn(3, 5, 1030), tolerance=1e-6)


def test_linear_geglu_equals_pytorch():
    x, weight, bias = randn(3, 5, 12).requires_grad_(), randn(2 * 30, 12), randn(2 * 30)
    value, gate = F.linear(x, weight, bias).chunk(2, -1)
    fused = pointwise.LinearGEGLU.apply(x, weight, bias)
    assert_close(fused, value * F.gelu(gate), x, randn(3, 5, 30), tolerance=1e-6)


def test_quick_gelu_equals_transformers():
    x = (3 * randn(5, 1030)).requires_grad_()
    assert_close(pointwise.QuickGELU.apply(x), QuickGELUActivation()(x), x, randn(5, 1030), tolerance=1e-6)


def test_linear_of_concatenation_equals_pytorch():
    x, weight, bias = randn(2, 5, 12).requires_grad_(), randn(6, 12), randn(6)
    fused = ConcatLinear.apply(x[..., :8], x[..., 8:], weight, bias)
    assert_close(fused, F.linear(x, weight, bias), x, randn(2, 5, 6), tolerance=1e-6)


def test_residual_add_takes_any_memory_format():
    a, b, bias = randn(2, 6, 3, 5).requires_grad_(), randn(2, 6, 3, 5).contiguous(memory_format=LAST), randn(6)
    grad = randn(2, 12, 3, 5)[:, 3:9]
    fused = pointwise.ResidualAdd.apply(a, b, bias)
    assert_close(fused, a + b + bias[:, None, None], a, grad, tolerance=1e-6, grad_tolerance=1e-9)


@pytest.mark.parametrize("added", [True, False])
def test_add_layer_norm_equals_pytorch(added: bool):
    a = (3 * randn(2, 150, 40) + 20).requires_grad_()
    b = randn(2, 150, 40).requires_grad_() if added else None
    weight, bias, grads = randn(40), randn(41)[1:], (randn(2, 150, 40), randn(2, 150, 40) + 1)
    stream = a + b if added else a
    reference = stream, F.layer_norm(stream, (40,), weight, bias, 1e-5)
    fused = layer_norm.AddLayerNorm.apply(a, b, weight, bias, 1e-5)
    assert_close(fused, reference, (a, b) if added else (a,), grads)


@pytest.mark.parametrize(
    ("queries", "keys", "head_dim"), [(150, 77, 40), (64, 128, 64), (130, None, 20), (300, 20, 40), (70, None, 80)]
)
def test_attention_equals_pytorch(queries: int, keys: int | None, head_dim: int, monkeypatch: pytest.MonkeyPatch):
    """Self- and cross-attention, partial blocks, padded heads, and queries split among programs."""
    monkeypatch.setattr(flash_attention, "TARGET_PROGRAMS", 24)
    shapes = [(2, queries, 3, head_dim), (2, keys, 2, 3, head_dim)] if keys else [(2, queries, 3, 3, head_dim)]
    packed = [randn(*shape, dtype=torch.float16).requires_grad_() for shape in shapes]
    kv = [] if keys else [None]
    fused = flash_attention.FlashAttention.apply(*packed, *kv).float()
    reference = attention.sdpa(*(x.float() for x in packed), *kv)
    assert_close(
        fused, reference, packed, randn(2, queries, 3, head_dim).half().float(), tolerance=1e-3, grad_tolerance=2e-3
    )


@pytest.mark.parametrize(
    ("dtype", "head_dim", "kernels"),
    [(torch.float16, 64, True), (torch.float16, 136, False), (torch.float32, 40, False)],
)
def test_deterministic_attention_uses_kernels_where_they_apply(dtype: torch.dtype, head_dim: int, kernels: bool):
    out = attention.deterministic(randn(1, 5, 3, 2, head_dim, dtype=dtype).requires_grad_(), None)
    assert (out.grad_fn.name() == "FlashAttentionBackward") == kernels


def test_queries_are_split_when_there_are_few_keys():
    assert flash_attention.split_queries(4096, 128, 64) == (512, 8)
    assert flash_attention.split_queries(4096, 128, 2048) == (4096, 1)
    assert flash_attention.split_queries(100, 128, 2) == (128, 1)


def test_check_runs_a_kernel():
    check(torch.device(DEVICE))


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_text_encoder_output_is_unchanged(activation: str):
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = CLIPTextConfig(vocab_size=50, bos_token_id=1, eos_token_id=2, hidden_act=activation, **sizes)
    plain = CLIPTextModel(config).requires_grad_(False).eval().to(DEVICE)
    fused = copy.deepcopy(plain)
    fuse_text_encoder(fused)
    assert [type(module) for module in fused.modules()].count(FusedClipLayer) == 2
    embeddings, outputs = randn(2, 7, 24).requires_grad_(), []
    for model in (fused, plain):
        model.get_input_embeddings().register_forward_hook(lambda *_: embeddings)
        output = model(input_ids=torch.arange(14, device=DEVICE).view(2, 7), output_hidden_states=True)
        outputs.append((output.last_hidden_state, output.hidden_states[-2]))
    assert_close(*outputs, embeddings, (randn(2, 7, 24), randn(2, 7, 24)))


def tiny_unet(**options: object) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        layers_per_block=1,
        norm_num_groups=4,
        **options,
    )
    return unet.requires_grad_(False).eval().to(DEVICE, memory_format=LAST)


def assert_unets_close(fused: torch.nn.Module, plain: torch.nn.Module, pooled: torch.Tensor | None = None) -> None:
    """Compare predictions, and their gradients with respect to the prompt embeddings and SDXL's pooled prompt."""
    latents, timesteps = randn(2, 4, 4, 4), torch.tensor([3, 700], device=DEVICE)
    inputs, options = [randn(2, 9, 16).requires_grad_()], {}
    if pooled is not None:
        inputs.append(pooled.requires_grad_())
        options = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.full((2, 6), 1024.0, device=DEVICE)}}
    outputs = [model(latents, timesteps, inputs[0], return_dict=False, **options)[0] for model in (fused, plain)]
    assert_close(*outputs, inputs, randn(2, 4, 4, 4), grad_tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("linear", [True, False])
def test_unet_output_is_unchanged(linear: bool):
    plain = tiny_unet(use_linear_projection=linear)
    fused = fuse_unet(copy.deepcopy(plain), attention.deterministic)
    classes = [type(module) for module in fused.modules()]
    assert [classes.count(kind) for kind in (FusedResnetBlock, FusedUpBlock, FusedTransformer2D)] == [8, 2, 4]
    assert classes.count(FusedTransformerBlock) == 4
    assert_unets_close(fused, plain)


def test_unet_of_sdxl_is_unchanged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transformer, "LARGEST_KEPT", 0)  # as for images of 1024 px
    embeddings = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    sizes = {"projection_class_embeddings_input_dim": 16 + 6 * 4, "transformer_layers_per_block": 2}
    plain = tiny_unet(use_linear_projection=True, **embeddings, **sizes)
    unet = copy.deepcopy(plain)
    fused = fuse_unet(unet, attention.deterministic)
    assert isinstance(fused, FusedUNet)
    assert fused.unet is unet
    classes = [type(module) for module in fused.modules()]
    assert [classes.count(kind) for kind in (FusedResnetBlock, FusedUpBlock, FusedTransformer2D)] == [8, 2, 4]
    assert classes.count(FusedTransformerBlock) == 8
    assert_unets_close(fused, plain, pooled=randn(2, 16))


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_number_and_reaches_fused_blocks():
    plain, recomputed = tiny_unet(), []
    fused = fuse_unet(copy.deepcopy(plain), attention.deterministic)

    def recompute(module: torch.nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        recomputed.append(type(module))
        return checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False)

    fused.enable_gradient_checkpointing(recompute)
    assert_unets_close(fused.train(), plain)
    # diffusers never recomputes the first ResNet block of the middle.
    assert recomputed.count(FusedResnetBlock) == 7
    assert recomputed.count(FusedTransformerBlock) == 4


@pytest.mark.slow
def test_transformers_that_are_not_covered_stay():
    plain = tiny_unet(only_cross_attention=True)
    unet = copy.deepcopy(plain)
    assert fuse_unet(unet, attention.deterministic) is unet
    classes = [type(module) for module in unet.modules()]
    assert classes.count(FusedResnetBlock) == 8
    assert FusedTransformer2D not in classes
    assert_unets_close(unet, plain)


def test_decoder_output_is_unchanged():
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    plain = AutoencoderKL(**blocks, block_out_channels=(8, 16), norm_num_groups=4, sample_size=8).to(DEVICE).eval()
    fused, latents = copy.deepcopy(plain), randn(2, 4, 4, 4)
    fuse_decoder(fused)
    classes = [type(module) for module in fused.decoder.modules()]
    assert classes.count(FusedResnetBlock) == 6
    with torch.no_grad():
        outputs = [vae.decode(latents).sample for vae in (fused, plain)]
    assert distance(*outputs) < 1e-5
