"""Attention kernels, fused kernels and compilation of a denoiser: the same numbers to rounding, at another speed."""

import torch

# Measured on one H200 with Stable Diffusion 1.5's shape and PyTorch's own kernels, where it saves 2.2 ms a step and
# takes 24 s to begin; see docs/training.md.
REGIONAL_PAYS_STEPS = 11_000


def attend(denoiser: torch.nn.Module, attention: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """`runtime.attention` => the denoiser's kernels; xformers is tried with one real call first.

    Returns a sentence when xformers cannot run here and the usual attention stays.
    """
    if attention != "xformers":
        return None
    try:
        import xformers.ops

        sample = torch.randn(1, 64, 1, 40, device=device, dtype=dtype, requires_grad=True)
        xformers.ops.memory_efficient_attention(sample, sample, sample).sum().backward()
        denoiser.enable_xformers_memory_efficient_attention()
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        return f"`runtime.attention: xformers` cannot run here ({_reason(error)}); the usual attention is taken"
    return None


def fuse(
    denoiser: torch.nn.Module, wish: str | bool, device: torch.device, *, exact: bool, attend: bool, compiled: str
) -> str | None:
    """`runtime.fused_kernels` => the denoiser's modules computed by kernels of our own; one real call is made first.

    `exact`, `attend`, `compiled`: see `stages.models.fused.modules.fuse`. Returns a sentence when they cannot run here
    and PyTorch's own kernels stay.
    """
    if wish is False or (wish == "auto" and device.type != "cuda"):
        return None
    try:
        if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
            raise RuntimeError("they need an NVIDIA GPU of compute capability 8.0 or newer")
        from stages.models.fused import modules

        modules.try_out(device)
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        return f"`runtime.fused_kernels` cannot run here ({_reason(error)}); PyTorch's own kernels are taken"
    modules.fuse(denoiser, exact=exact, attend=attend, compiled=compiled)
    return None


def _reason(error: Exception) -> str:
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def choose_compile(choice: str, device: torch.device, steps: int, *, fused: bool) -> str:
    """`runtime.compile`, device, steps of the whole run => off, regional or full; auto: what earns its warm-up.

    Nothing does beside the fused kernels. A run that goes on takes what it began with, or its numbers would differ in
    the last bits.
    """
    if choice != "auto":
        return choice
    return "regional" if device.type == "cuda" and not fused and steps >= REGIONAL_PAYS_STEPS else "off"


def compile_denoiser(denoiser: torch.nn.Module, kind: str) -> None:
    """The denoiser's forward pass, compiled in place: all of it, or its repeated blocks once for every shape."""
    torch._dynamo.config.recompile_limit = 64
    if kind == "full":
        denoiser.compile(dynamic=False)
    elif kind == "regional":
        denoiser.compile_repeated_blocks(dynamic=False)
