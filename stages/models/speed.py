"""Attention kernels and compilation of a denoiser: the same numbers to rounding, at another speed."""

import torch

# Measured on one H200 with Stable Diffusion 1.5's shape, where it saves 2.2 ms a step and takes 24 s to begin; see
# docs/training.md. Compiling all of it took longer than any training of a word.
REGIONAL_PAYS_STEPS = 11_000


def attend(denoiser: torch.nn.Module, attention: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """`runtime.attention` => the denoiser's kernels; xformers is tried with one real call first.

    Returns a sentence when xformers cannot run here and PyTorch's own attention stays.
    """
    if attention != "xformers":
        return None
    try:
        import xformers.ops

        sample = torch.randn(1, 64, 1, 40, device=device, dtype=dtype, requires_grad=True)
        xformers.ops.memory_efficient_attention(sample, sample, sample).sum().backward()
        denoiser.enable_xformers_memory_efficient_attention()
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"`runtime.attention: xformers` cannot run here ({reason}); PyTorch's own attention is taken"
    return None


def choose_compile(choice: str, device: torch.device, steps: int) -> str:
    """`runtime.compile`, device, steps of the whole run => off, regional or full; auto: what earns its warm-up.

    A run that goes on takes what it began with, or its numbers would differ in the last bits.
    """
    if choice != "auto":
        return choice
    return "regional" if device.type == "cuda" and steps >= REGIONAL_PAYS_STEPS else "off"


def compile_denoiser(denoiser: torch.nn.Module, kind: str) -> None:
    """The denoiser's forward pass, compiled in place: all of it, or its repeated blocks once for every shape."""
    torch._dynamo.config.recompile_limit = 64
    if kind == "full":
        denoiser.compile(dynamic=False)
    elif kind == "regional":
        denoiser.compile_repeated_blocks(dynamic=False)
