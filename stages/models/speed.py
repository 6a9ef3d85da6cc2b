"""Attention kernels and compilation of a denoiser: the same numbers to rounding, at another speed."""

import torch

from stages import UserError

# Measured on one H200 with Stable Diffusion 1.5's shape; see docs/training.md.
WARM_UP_STEPS = {"regional": 600, "full": 3000}


def attend(denoiser: torch.nn.Module, attention: str, device: torch.device, dtype: torch.dtype) -> None:
    """`runtime.attention` => the denoiser's kernels; xformers is tried with one real call first.

    Raises UserError, with the reason in a sentence, when xformers cannot run here.
    """
    if attention != "xformers":
        return
    try:
        import xformers.ops

        sample = torch.randn(1, 64, 1, 40, device=device, dtype=dtype, requires_grad=True)
        xformers.ops.memory_efficient_attention(sample, sample, sample).sum().backward()
    except (ImportError, OSError, RuntimeError, NotImplementedError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"`runtime.attention: xformers` cannot run here ({reason}); set auto, which is PyTorch's own attention, or "
            "install an xformers that was built for this PyTorch."
        ) from None
    denoiser.enable_xformers_memory_efficient_attention()


def choose_compile(choice: str, device: torch.device, steps: int) -> str:
    """`runtime.compile`, device, steps to come => off, regional or full; auto: the fastest that earns its warm-up."""
    if choice != "auto":
        return choice
    if device.type != "cuda":
        return "off"
    return next((kind for kind in ("full", "regional") if steps >= WARM_UP_STEPS[kind]), "off")


def compile_denoiser(denoiser: torch.nn.Module, kind: str) -> None:
    """The denoiser's forward pass, compiled in place: all of it, or its repeated blocks once."""
    if kind == "full":
        denoiser.compile(dynamic=False)
    elif kind == "regional":
        denoiser.compile_repeated_blocks(dynamic=False)
