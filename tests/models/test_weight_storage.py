"""Weights in 8 bits or in host memory: the gradient is that of the stored ones, and autograd keeps no restored ones."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from stages import UserError
from stages.common.runtime import Runtime
from stages.models.acceleration import apply_kernels
from stages.models.backbone import Backbone
from stages.models.loading import open_backbone
from stages.models.params import Model
from stages.models.weight_storage import (
    FP8,
    KINDS,
    StoredConv2d,
    StoredLayer,
    StoredLinear,
    is_offloaded,
    is_stored,
    move,
)
from tests.inversion.tiny_training import CONCEPT
from tests.tiny import tiny_model, tiny_sd3, tiny_sdxl

BUILDERS = {"sd15": tiny_model, "sdxl": tiny_sdxl, "sd3": tiny_sd3}


@pytest.fixture(scope="module")
def open_stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Backbone]:
    folder = tmp_path_factory.mktemp("storage")
    models = {name: build(folder / name) for name, build in BUILDERS.items()}

    def open_named(
        name: str, storage_dtype: str | None = "fp8", dtype: torch.dtype = torch.float32, offload: bool | str = False
    ) -> Backbone:
        torch.set_num_threads(1)
        model = Model(base=str(models[name]), storage_dtype=storage_dtype)
        return open_backbone(model, CONCEPT, "cpu", dtype, offload=offload)

    return open_named


def modules(backbone: Backbone) -> dict[str, nn.Module]:
    """Return all modules of the denoiser and of the text encoders by name."""
    models = {"denoiser": backbone.denoiser, **dict(enumerate(backbone.text_encoders))}
    return {f"{key}.{name}": module for key, model in models.items() for name, module in model.named_modules()}


def loss_of(backbone: Backbone, vectors: torch.Tensor) -> torch.Tensor:
    channels, random = backbone.denoiser.config.in_channels, torch.Generator().manual_seed(0)
    noisy, sizes = torch.randn(2, channels, 8, 8, generator=random), torch.full((2, 6), 32.0)
    prompt = backbone.encode_prompt(backbone.text.tokenize(["a photo of <critter>"] * 2), vectors)
    return backbone.predict(noisy, torch.tensor([100, 800]), prompt, sizes).square().mean()


def initial(backbone: Backbone) -> torch.Tensor:
    return backbone.text.initializer_vectors().requires_grad_()


@pytest.mark.parametrize("layer", [nn.Linear(24, 16), nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)])
@pytest.mark.parametrize("size", [1e-6, 1e-2, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_keep_three_bits_of_the_mantissa(layer: nn.Module, size: float, dtype: torch.dtype):
    weight = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0)) * size
    layer.weight.data = weight.to(dtype)
    stored = KINDS[type(layer)](layer)
    stored.to_fp8()
    assert stored.stored.dtype is FP8
    assert math.log2(stored.scale).is_integer()
    restored = stored.restored(torch.device("cpu"))
    assert restored.dtype is dtype
    absolute = max(size * 2.0**-13, 2.0**-24 if dtype is torch.float16 else 0)
    torch.testing.assert_close(restored.float(), layer.weight.data.float(), rtol=2.0**-4, atol=absolute)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_is_that_of_a_model_with_the_restored_weights(
    name: str, checkpointing: bool, open_stored: Callable[..., Backbone]
):
    stored, plain = open_stored(name), open_stored(name, None)
    layers = {key: module for key, module in modules(stored).items() if isinstance(module, StoredLayer)}
    kinds = {StoredLinear} if name == "sd3" else {StoredLinear, StoredConv2d}
    assert {type(module) for module in layers.values()} == kinds
    if checkpointing:
        stored.enable_gradient_checkpointing()
    vectors = initial(stored)
    (before,) = torch.autograd.grad(loss_of(plain, vectors), vectors)
    for key, module in modules(plain).items():
        if key in layers:
            module.weight.data = layers[key].restored(torch.device("cpu"))
    results = []
    for backbone in (stored, plain):
        loss = loss_of(backbone, vectors)
        results.append((loss.detach(), *torch.autograd.grad(loss, vectors)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(results[0][1], before, rtol=1e-3), "8 bits change numbers"


@pytest.mark.parametrize("name", BUILDERS)
def test_autograd_keeps_no_weights(name: str, open_stored: Callable[..., Backbone]):
    """All that a step saves besides the model's own tensors: no more than with full weights."""
    saved = {}
    for storage_dtype in ("fp8", None):
        backbone, kept = open_stored(name, storage_dtype), {}
        models = (backbone.denoiser, *backbone.text_encoders)
        own = {t.untyped_storage().data_ptr() for m in models for t in (*m.parameters(), *m.buffers())}

        def keep(tensor: torch.Tensor, kept: dict = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # a reference, so that no address is used twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss_of(backbone, initial(backbone))
        saved[storage_dtype] = sum(t.untyped_storage().nbytes() for p, t in kept.items() if p not in own)
    assert 0 < saved["fp8"] <= saved[None]


@pytest.mark.parametrize("name", BUILDERS)
def test_blocks_take_half_of_the_memory_and_the_rest_is_unchanged(name: str, open_stored: Callable[..., Backbone]):
    stored, plain = (modules(open_stored(name, kind, torch.bfloat16)) for kind in ("fp8", None))
    layers = {key: module for key, module in stored.items() if isinstance(module, StoredLayer)}
    encoders = {key.partition(".")[0] for key in layers} - {"denoiser"}
    assert encoders == ({"2"} if name == "sd3" else set()), "of the text encoders only T5"
    for key, module in plain.items():
        if key in layers:
            assert 2 * layers[key].stored.nbytes == module.weight.nbytes
            assert module.bias is None or torch.equal(layers[key].bias, module.bias)
        else:
            for tensor_name, tensor in module.named_parameters(recurse=False):
                assert torch.equal(tensor, getattr(stored[key], tensor_name))


def test_kernels_that_read_weights_are_not_used(open_stored: Callable[..., Backbone]):
    backbone = open_stored("sdxl")
    for runtime in ({"fused_kernels": True}, {"compile": "regional"}, {"compile": "full"}):
        (warning,) = apply_kernels(backbone, Runtime(**runtime), 10**6)
        assert warning.startswith("`runtime.fused_kernels` and `compile` are not used with `model.storage_dtype`")
    assert apply_kernels(backbone, Runtime(), 10**6) == []
    assert is_stored(backbone.denoiser)
    assert all(module._compiled_call_impl is None for module in backbone.denoiser.modules())


@pytest.mark.parametrize("storage_dtype", [None, "fp8"])
@pytest.mark.parametrize("name", BUILDERS)
def test_weights_in_host_memory_change_no_number(
    name: str, storage_dtype: str | None, open_stored: Callable[..., Backbone]
):
    results = []
    for offload in (True, False):
        backbone = open_stored(name, storage_dtype, offload=offload)
        assert all(is_offloaded(model) is offload for model in (backbone.denoiser, *backbone.text_encoders))
        vectors = initial(backbone)
        loss = loss_of(backbone, vectors)
        results.append((loss.detach(), *torch.autograd.grad(loss, vectors)))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-8)
    assert torch.equal(results[0][0], results[1][0])


class FullDevice(nn.Module):
    """A model for whose blocks the device `meta` has no room."""

    def __init__(self, *, fits_without: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(2)])
        self.last, self.fits_without = nn.Linear(4, 4), fits_without

    def to(self, device: torch.device | str, **options: object) -> nn.Module:
        if torch.device(device).type == "meta" and not (self.fits_without and is_offloaded(self)):
            raise torch.OutOfMemoryError
        return super().to(device, **options)


@pytest.mark.parametrize("offload", ["auto", True])
def test_blocks_without_room_stay_in_host_memory(offload: str | bool):
    model = FullDevice(fits_without=True)
    move(model, torch.device("meta"), offload)
    assert [block[0].stored.device.type for block in model.blocks] == ["cpu", "cpu"]
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize(("fits_without", "offload"), [(True, False), (False, "auto"), (False, True)])
def test_model_that_does_not_fit_is_refused(fits_without: bool, offload: str | bool):
    with pytest.raises(UserError, match=r"^the weights of the model do not fit into memory; set `runtime.offload"):
        move(FullDevice(fits_without=fits_without), torch.device("meta"), offload)


@pytest.mark.parametrize("offload", [False, True])
def test_weights_are_moved_in_the_memory_format_asked_for(offload: bool):
    blocks = [nn.Sequential(nn.Conv2d(3, 4, 3)) for _ in range(2)]
    model = nn.ModuleDict({"blocks": nn.ModuleList(blocks)}).requires_grad_(False)
    move(model, torch.device("cpu"), offload, torch.channels_last)
    layers = [block[0] for block in model["blocks"]]
    weights = [layer.stored if offload else layer.weight for layer in layers]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
