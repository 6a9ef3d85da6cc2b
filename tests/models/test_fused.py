"""The kernels of our own give what PyTorch's give: on a GPU as they are, else in Triton's interpreter."""

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.activations import QuickGELUActivation

pytest.importorskip("triton", reason="needs Triton, which there is for Linux")

from stages.models.fused import attention, group_norm, layer_norm, pointwise
from stages.models.fused.clip import FusedClipLayer
from stages.models.fused.modules import fuse_text_encoder, fuse_unet
from stages.models.fused.resnet import ConcatLinear, FusedResnetBlock, FusedUpBlock
from stages.models.fused.transformer import FusedTransformer2D, FusedTransformerBlock

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAST = torch.channels_last


@pytest.fixture(autouse=True)
def whole_digits(monkeypatch: pytest.MonkeyPatch):
    """PyTorch's convolutions take TF32 by themselves, and a matrix product does not."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """=> relative to the other's length."""
    return float((one.detach().float() - other.detach().float()).norm() / other.detach().float().norm())


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


@pytest.mark.parametrize(("channels", "groups"), [(20, 2), (32, 4), (12, 4), (96, 1)])
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize("own", [None, 7])
def test_a_norm_is_pytorchs(channels: int, groups: int, silu: bool, shifted: bool, own: int | None):
    """Far from zero, where squares cancel; with a width that is no power of two; of one picture, or of two side by
    side that part a group."""
    x = (3 * drawn(2, channels, 7, 5) + 20).contiguous(memory_format=LAST).requires_grad_()
    shift = drawn(2, channels) if shifted else None
    weight, bias, slope = drawn(channels), drawn(channels + 1)[1:], drawn(2, channels, 7, 5)
    parts = (x, None) if own is None else (x[:, :own], x[:, own:])
    ours = group_norm.GroupNorm.apply(*parts, shift, weight, bias, groups, 1e-5, silu)
    theirs = F.group_norm(x if shift is None else x + shift[:, :, None, None], groups, weight, bias, 1e-5)
    theirs = F.silu(theirs) if silu else theirs
    assert distance(ours, theirs) < 1e-5
    assert distance(*(torch.autograd.grad(y, x, slope)[0] for y in (ours, theirs))) < 1e-5


def test_a_gate_is_pytorchs():
    x, slope = drawn(3, 5, 2 * 1030).requires_grad_(), drawn(3, 5, 1030)
    value, gate = x.chunk(2, -1)
    ours, theirs = pointwise.GEGLU.apply(x), value * F.gelu(gate)
    assert distance(ours, theirs) < 1e-6
    assert distance(*(torch.autograd.grad(y, x, slope)[0] for y in (ours, theirs))) < 1e-6


def test_a_quick_gate_is_transformers():
    x, slope = (3 * drawn(5, 1030)).requires_grad_(), drawn(5, 1030)
    ours, theirs = pointwise.QuickGELU.apply(x), QuickGELUActivation()(x)
    assert distance(ours, theirs) < 1e-6
    assert distance(*(torch.autograd.grad(y, x, slope)[0] for y in (ours, theirs))) < 1e-6


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_a_text_encoder_says_what_it_did_before_it_was_fused(act: str):
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
    plain = CLIPTextModel(CLIPTextConfig(vocab_size=50, hidden_act=act, **sizes))
    plain = plain.requires_grad_(False).eval().to(DEVICE)
    fused = copy.deepcopy(plain)
    fuse_text_encoder(fused)
    assert [type(module) for module in fused.modules()].count(FusedClipLayer) == 2
    words = drawn(2, 7, 24).requires_grad_()
    ids = torch.arange(14, device=DEVICE).view(2, 7)
    said = []
    for model in (fused, plain):
        model.set_input_embeddings(Spoken(words))
        said.append(model(input_ids=ids).last_hidden_state)
    assert distance(*said) < 1e-5
    assert distance(*(torch.autograd.grad(y, words, drawn(2, 7, 24))[0] for y in said)) < 1e-5


class Spoken(torch.nn.Module):
    """An embedding that says the same whatever it is asked."""

    def __init__(self, words: torch.Tensor) -> None:
        super().__init__()
        self.words = words

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.words


def test_a_linear_layer_of_two_parts_is_that_of_the_whole():
    whole, weight, bias = drawn(2, 5, 12).requires_grad_(), drawn(6, 12), drawn(6)
    ours, theirs = ConcatLinear.apply(whole[..., :8], whole[..., 8:], weight, bias), F.linear(whole, weight, bias)
    assert distance(ours, theirs) < 1e-6
    slope = drawn(2, 5, 6)
    assert distance(*(torch.autograd.grad(y, whole, slope)[0] for y in (ours, theirs))) < 1e-6


def test_a_sum_takes_any_layout():
    a, b, bias = drawn(2, 6, 3, 5).requires_grad_(), drawn(2, 6, 3, 5).contiguous(memory_format=LAST), drawn(6)
    slope = drawn(2, 12, 3, 5)[:, 3:9]
    ours = pointwise.ResidualAdd.apply(a, b, bias)
    assert distance(ours, a + b + bias[:, None, None]) < 1e-6
    assert torch.equal(torch.autograd.grad(ours, a, slope)[0], slope)


@pytest.mark.parametrize("added", [True, False])
def test_a_layer_norm_of_a_sum_is_pytorchs(added: bool):
    """Its stream goes on, past the norm and through it."""
    a, b = (3 * drawn(2, 150, 40) + 20).requires_grad_(), drawn(2, 150, 40).requires_grad_() if added else None
    weight, bias, past, through = drawn(40), drawn(41)[1:], drawn(2, 150, 40), drawn(2, 150, 40) + 1
    ours = layer_norm.AddLayerNorm.apply(a, b, weight, bias, 1e-5)
    stream = a + b if added else a
    theirs = stream, F.layer_norm(stream, (40,), weight, bias, 1e-5)
    assert all(distance(one, other) < 1e-5 for one, other in zip(ours, theirs, strict=True))
    inputs = (a, b) if added else (a,)
    mine, known = (torch.autograd.grad(y, inputs, (past, through)) for y in (ours, theirs))
    assert all(distance(one, other) < 1e-5 for one, other in zip(mine, known, strict=True))


@pytest.mark.parametrize(
    ("queries", "keys", "width"), [(150, 77, 40), (64, 128, 64), (130, None, 20), (300, 20, 40), (70, None, 80)]
)
def test_attention_is_pytorchs(queries: int, keys: int | None, width: int, monkeypatch: pytest.MonkeyPatch):
    """Packed for themselves or for others; blocks that the sizes fill and that they do not; heads whose width is no
    power of two; few keys, for which the queries are shared."""
    monkeypatch.setattr(attention, "TARGET_PROGRAMS", 24)
    own, others = (2, queries, 3, 3, width), (2, keys, 2, 3, width)
    shapes = [own] if keys is None else [(2, queries, 3, width), others]
    packed = [drawn(*shape, dtype=torch.float16).requires_grad_() for shape in shapes]
    slope = drawn(2, queries, 3, width)
    ours = attention.FlashAttention.apply(packed[0], None if keys is None else packed[1])
    theirs = attention.sdpa(packed[0].float(), None if keys is None else packed[1].float())
    assert distance(ours, theirs) < 1e-3
    mine, known = (torch.autograd.grad(y, packed, slope.to(y.dtype)) for y in (ours, theirs))
    assert all(distance(a, b) < 2e-3 for a, b in zip(mine, known, strict=True))


def test_queries_are_shared_where_there_are_few_keys():
    """Whole blocks of queries, all of them, and none twice."""
    assert attention.split_queries(4096, 128, 64) == (512, 8)
    assert attention.split_queries(4096, 128, 2048) == (4096, 1)
    assert attention.split_queries(100, 128, 2) == (128, 1)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_denoiser_predicts_what_it_did_before_it_was_fused(linear: bool, checkpointing: bool):
    torch.manual_seed(0)
    plain = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        layers_per_block=1,
        norm_num_groups=8,
        use_linear_projection=linear,
    )
    plain = plain.requires_grad_(False).eval().to(DEVICE, memory_format=LAST)
    fused = copy.deepcopy(plain)
    fuse_unet(fused, attention.deterministic)
    kinds = [type(module) for module in fused.modules()]
    assert kinds.count(FusedResnetBlock) == 8
    assert kinds.count(FusedUpBlock) == 2
    assert kinds.count(FusedTransformer2D) == kinds.count(FusedTransformerBlock) == 4
    if checkpointing:
        fused.enable_gradient_checkpointing()
        fused.train()
    latents, context = drawn(2, 4, 8, 8), drawn(2, 9, 16).requires_grad_()
    said = [model(latents, torch.tensor([3, 700], device=DEVICE), context).sample for model in (fused, plain)]
    assert distance(*said) < 1e-5
    assert distance(*(torch.autograd.grad(y, context, drawn(2, 4, 8, 8))[0] for y in said)) < 1e-4
