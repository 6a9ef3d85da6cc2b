"""What only changes speed: kernels and compilation."""

from pathlib import Path

import pytest
import torch

from stages.models.speed import REGIONAL_PAYS_STEPS, attend, choose_compile
from tests.inversion.world import opened


def test_xformers_that_cannot_run_is_told_in_a_sentence_and_pytorch_goes_on(folder: Path):
    """No xformers runs in half precision without a GPU: it is missing, or has no such kernel."""
    backbone = opened(folder)
    before = {name: type(processor) for name, processor in backbone.denoiser.attn_processors.items()}
    said = attend(backbone.denoiser, "xformers", torch.device("cpu"), torch.float16)
    assert said.startswith("`runtime.attention: xformers` cannot run here (")
    assert said.endswith("the usual attention is taken")
    assert {name: type(processor) for name, processor in backbone.denoiser.attn_processors.items()} == before
    assert attend(backbone.denoiser, "auto", torch.device("cpu"), torch.float16) is None


@pytest.mark.parametrize(
    ("steps", "kind"),
    [(2000, "off"), (REGIONAL_PAYS_STEPS, "regional")],
)
def test_compilation_has_to_earn_its_warm_up(steps: int, kind: str):
    assert choose_compile("auto", torch.device("cuda"), steps, fused=False) == kind
    assert choose_compile("auto", torch.device("cuda"), steps, fused=True) == "off"
    assert choose_compile("auto", torch.device("cpu"), steps, fused=False) == "off"
    assert choose_compile("full", torch.device("cpu"), steps, fused=True) == "full"
