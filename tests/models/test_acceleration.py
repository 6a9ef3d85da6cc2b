"""The choice of kernels and compilation, and the fallback where kernels cannot run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stages.common.runtime import Runtime
from stages.models import acceleration
from stages.models.acceleration import apply_kernels, choose_kernels
from stages.models.stable_diffusion import StableDiffusion
from tests.inversion.tiny_training import open_tiny
from tests.tiny import tiny_sd3, tiny_sdxl

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("runtime", "device", "compile_pays", "expected"),
    [
        ({}, CUDA, True, ("off", True)),
        ({}, CPU, True, ("off", False)),
        ({"fused_kernels": False}, CUDA, False, ("off", False)),
        ({"fused_kernels": False}, CUDA, True, ("regional", False)),
        ({"fused_kernels": False, "compile": "off"}, CUDA, True, ("off", False)),
        ({"compile": "full"}, CUDA, False, ("full", False)),
        ({"compile": "regional", "fused_kernels": True}, CUDA, False, ("regional", False)),
    ],
    ids=str,
)
def test_fused_kernels_and_compilation_exclude_each_other(
    runtime: dict, device: torch.device, compile_pays: bool, expected: tuple[str, bool]
):
    assert choose_kernels(Runtime(**runtime), device, covered=True, compile_pays=compile_pays) == expected


@pytest.mark.parametrize(
    ("runtime", "start", "end"),
    [
        ({"attention": "xformers"}, "`runtime.attention: xformers` cannot run here (", "PyTorch's attention is used"),
        ({"fused_kernels": True}, "`runtime.fused_kernels` cannot run here (they need an NVIDIA GPU", "are used"),
    ],
    ids=["xformers", "fused kernels"],
)
def test_kernels_that_cannot_run_give_a_warning(backbone: StableDiffusion, runtime: dict, start: str, end: str):
    """No xformers is installed, or it has no kernel for half precision on a CPU."""
    backbone.denoiser.half()
    before = [type(module) for module in backbone.denoiser.modules()]
    (warning,) = apply_kernels(backbone, Runtime(**runtime), 100)
    assert warning.startswith(start)
    assert warning.endswith(end)
    assert [type(module) for module in backbone.denoiser.modules()] == before


@pytest.mark.parametrize(("build", "steps"), [(tiny_sdxl, 11_000), (tiny_sd3, 310)])
def test_training_compiles_from_the_steps_on_that_pay_for_it(
    build: Callable[[Path], Path], steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pays, backbone = [], open_tiny(build(tmp_path / "model"))
    monkeypatch.setattr(
        acceleration, "choose_kernels", lambda *_, compile_pays, **__: pays.append(compile_pays) or ("off", 0)
    )
    for count in (steps - 1, steps):
        apply_kernels(backbone, Runtime(), count)
    assert pays == [False, True]


@pytest.mark.parametrize(
    ("build", "reason"),
    [(tiny_sdxl, "they need an NVIDIA GPU of compute capability 8.0 or newer"), (tiny_sd3, "they are for UNets")],
)
def test_kernels_of_the_other_families(build: Callable[[Path], Path], reason: str, tmp_path: Path):
    backbone = open_tiny(build(tmp_path / "model"))
    (warning,) = apply_kernels(backbone, Runtime(fused_kernels=True), 100)
    assert warning == f"`runtime.fused_kernels` cannot run here ({reason}); PyTorch's kernels are used"
    assert apply_kernels(backbone, Runtime(), 100) == []
    assert choose_kernels(Runtime(), CUDA, covered=False, compile_pays=True) == ("regional", False)
    blocks = {"BasicTransformerBlock", "JointTransformerBlock"}
    assert apply_kernels(backbone, Runtime(compile="regional"), 100) == []
    compiled = [m for m in backbone.denoiser.modules() if m._compiled_call_impl is not None]
    assert compiled
    assert {type(module).__name__ for module in compiled} <= blocks


def test_default_runtime_gives_no_warning(backbone: StableDiffusion):
    assert apply_kernels(backbone, Runtime(), 100) == []
