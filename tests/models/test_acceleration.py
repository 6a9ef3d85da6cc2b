"""What only changes speed: kernels and compilation."""

from pathlib import Path

import pytest
import torch

from stages.models.acceleration import REGIONAL_PAYS_STEPS, choose_attention, choose_kernels, take
from tests.inversion.tiny_training import opened

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_xformers_that_cannot_run_is_told_in_a_sentence_and_pytorch_goes_on():
    """No xformers runs in half precision without a GPU: it is missing, or has no such kernel."""
    kind, said = choose_attention("xformers", CPU, torch.float16)
    assert kind == "auto"
    assert said.startswith("`runtime.attention: xformers` cannot run here (")
    assert said.endswith("the usual attention is taken")
    assert choose_attention("auto", CPU, torch.float16) == ("auto", None)


def test_kernels_that_cannot_run_are_told_in_a_sentence_and_pytorch_goes_on(folder: Path):
    backbone = opened(folder)
    before = [type(module) for module in backbone.denoiser.modules()]
    said = take(backbone.denoiser, backbone.text_encoder, "auto", fused=True, exact=True)
    assert said.startswith("`runtime.fused_kernels` cannot run here (they need an NVIDIA GPU")
    assert [type(module) for module in backbone.denoiser.modules()] == before
    assert take(backbone.denoiser, backbone.text_encoder, "auto", fused=False, exact=True) is None


@pytest.mark.parametrize(
    ("steps", "kind"),
    [(2000, "off"), (REGIONAL_PAYS_STEPS, "regional")],
)
def test_compilation_has_to_earn_its_warm_up(steps: int, kind: str):
    assert choose_kernels("auto", False, CUDA, steps) == (kind, False, None)
    assert choose_kernels("auto", False, CPU, steps) == ("off", False, None)
    assert choose_kernels("off", False, CUDA, steps) == ("off", False, None)


def test_what_the_compiler_fuses_is_left_to_it():
    many = REGIONAL_PAYS_STEPS
    assert choose_kernels("auto", "auto", CUDA, many) == ("off", True, None)
    assert choose_kernels("auto", "auto", CPU, many) == ("off", False, None)
    assert choose_kernels("full", "auto", CUDA, many) == ("full", False, None)
    assert choose_kernels("regional", True, CUDA, many) == (
        "regional",
        False,
        "`runtime.compile: regional` leaves no room for `runtime.fused_kernels`, which are left out",
    )
