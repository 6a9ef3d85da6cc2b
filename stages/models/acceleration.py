"""Attention kernels, fused kernels and compilation of a denoiser: the same numbers to rounding, at another speed."""

import torch

# Measured on one H200 with Stable Diffusion 1.5's shape and PyTorch's own kernels, where it saves 2.2 ms a step and
# takes 24 s to begin; see docs/training.md.
REGIONAL_PAYS_STEPS = 11_000


def choose_attention(choice: str, device: torch.device, dtype: torch.dtype) -> tuple[str, str | None]:
    """`runtime.attention` => the same, or auto and a sentence when xformers, tried with one real call, cannot run."""
    if choice != "xformers":
        return choice, None
    try:
        import xformers.ops

        sample = torch.randn(1, 64, 1, 40, device=device, dtype=dtype, requires_grad=True)
        xformers.ops.memory_efficient_attention(sample, sample, sample).sum().backward()
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        said = f"`runtime.attention: xformers` cannot run here ({_reason(error)}); the usual attention is taken"
        return "auto", said
    return choice, None


def apply_kernels(
    denoiser: torch.nn.Module, text_encoder: torch.nn.Module, attention: str, *, fused: bool, exact: bool
) -> str | None:
    """A denoiser => with its attention and, if `fused`, both computed by kernels of our own, after one real call.

    `exact`: the kernels that `auto` takes give the same bytes twice. Returns a sentence when the kernels cannot run
    here and PyTorch's own stay.
    """
    unfit = _unfit(next(denoiser.parameters()).device) if fused else None
    if fused and unfit is None:
        from stages.models.fused import attention as kernels
        from stages.models.fused import modules

        ours = kernels.exact if exact else kernels.standard
        modules.fuse(denoiser, {"auto": ours, "sdpa": kernels.standard, "xformers": kernels.xformers}[attention])
        modules.fuse_text(text_encoder)
    elif attention == "xformers":
        denoiser.enable_xformers_memory_efficient_attention()
    return unfit


def _unfit(device: torch.device) -> str | None:
    """=> why the fused kernels cannot run on a device, after one real call, or None."""
    try:
        if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
            raise RuntimeError("they need an NVIDIA GPU of compute capability 8.0 or newer")
        from stages.models.fused import modules

        modules.try_out(device)
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        return f"`runtime.fused_kernels` cannot run here ({_reason(error)}); PyTorch's own kernels are taken"
    return None


def _reason(error: Exception) -> str:
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def choose_kernels(
    compile_wish: str, fused_wish: str | bool, device: torch.device, steps: int
) -> tuple[str, bool, str | None]:
    """`runtime.compile` and `fused_kernels`, device, steps of the whole run => what is compiled (off, regional or
    full), whether the kernels of our own are taken, and a sentence if both were wished for.

    What the compiler fuses is left to it, so one excludes the other; auto: the fused kernels on a GPU, and without
    them the compiler where it earns its warm-up. A run that goes on takes what it began with, or its numbers would
    differ in the last bits.
    """
    if compile_wish in ("regional", "full"):
        both = f"`runtime.compile: {compile_wish}` leaves no room for `runtime.fused_kernels`, which are left out"
        return compile_wish, False, both if fused_wish is True else None
    fused = fused_wish is True or (fused_wish == "auto" and device.type == "cuda")
    earned = compile_wish == "auto" and device.type == "cuda" and not fused and steps >= REGIONAL_PAYS_STEPS
    return "regional" if earned else "off", fused, None


def compile_denoiser(denoiser: torch.nn.Module, kind: str) -> None:
    """The denoiser's forward pass, compiled in place: all of it, or its repeated blocks once for every shape."""
    torch._dynamo.config.recompile_limit = 64
    if kind == "full":
        denoiser.compile(dynamic=False)
    elif kind == "regional":
        denoiser.compile_repeated_blocks(dynamic=False)
