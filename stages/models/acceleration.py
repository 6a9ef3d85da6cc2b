"""Choose attention, fused kernels and compilation: the same numbers up to rounding, at another speed."""

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel

from stages.common.runtime import Runtime
from stages.models.backbone import Backbone
from stages.models.sharding import is_sharded
from stages.models.weight_storage import is_stored

# Training steps after which regional compilation has paid for its start, beside PyTorch's own kernels, on one H200: it
# saves 2.2 ms a step and takes 24 s with Stable Diffusion 1.5's shape, and 133 ms and 41 s with that of 3.5 Medium.
REGIONAL_PAYS_STEPS = {"unet": 11_000, "transformer": 310}


def apply_kernels(backbone: Backbone, runtime: Runtime, steps: int) -> list[str]:
    """Configure the backbone's kernels as `runtime` asks, and return a warning for each request that cannot be met.

    The choice depends on the steps of the whole run, so that a resumed run uses the kernels that it began with.
    """
    kind = "unet" if isinstance(backbone.denoiser, UNet2DConditionModel) else "transformer"
    compile_pays = steps >= REGIONAL_PAYS_STEPS[kind]
    backbone.denoiser, fused, warnings = accelerate_denoiser(backbone.denoiser, runtime, compile_pays=compile_pays)
    if fused:
        from stages.models.fused.clip import fuse_text_encoder

        for encoder in backbone.text_encoders:
            fuse_text_encoder(encoder)
    return warnings


def accelerate_denoiser(
    denoiser: ModelMixin, runtime: Runtime, *, compile_pays: bool = False
) -> tuple[torch.nn.Module, bool, list[str]]:
    """Return the module to call instead of `denoiser`, whether its kernels are fused, and warnings.

    `compile_pays` is whether `compile: auto` may compile; for renders its gain has not been measured.
    """
    device, warnings = denoiser.device, []
    if is_stored(denoiser) or is_sharded(denoiser):
        if runtime.fused_kernels is True or runtime.compile in ("regional", "full"):
            name = "FSDP" if is_sharded(denoiser) else "`model.storage_dtype` or `runtime.offload`"
            warnings.append(f"`runtime.fused_kernels` and `compile` are not used with {name}")
        runtime = runtime.model_copy(update={"fused_kernels": False, "compile": "off"})
    covered = isinstance(denoiser, UNet2DConditionModel)
    compile_mode, fused = choose_kernels(runtime, device, covered=covered, compile_pays=compile_pays)
    if compile_mode != "off" and runtime.fused_kernels is True:
        warnings.append(f"`runtime.compile: {compile_mode}` excludes `runtime.fused_kernels`, which are not used")
    attention = runtime.attention
    if attention == "xformers" and (reason := _xformers_failure(device, denoiser.dtype)):
        warnings.append(f"`runtime.attention: xformers` cannot run here ({reason}); PyTorch's attention is used")
        attention = "auto"
    if fused and (reason := _fused_failure(device) if covered else "they are for UNets"):
        warnings.append(f"`runtime.fused_kernels` cannot run here ({reason}); PyTorch's kernels are used")
        fused = False
    if fused:
        from stages.models.fused import attention as functions
        from stages.models.fused.unet import fuse_unet

        auto = functions.deterministic if runtime.deterministic else functions.sdpa
        function = {"auto": auto, "sdpa": functions.sdpa, "xformers": functions.xformers}[attention]
        denoiser = fuse_unet(denoiser, function)
    elif attention == "xformers":
        denoiser.enable_xformers_memory_efficient_attention()
    _compile(denoiser, compile_mode)
    return denoiser, fused, warnings


def accelerate_vae(vae: AutoencoderKL, runtime: Runtime) -> None:
    """Fuse the kernels of the decoder if `runtime` asks for it and the device can run them."""
    _, fused = choose_kernels(runtime, vae.device, covered=True, compile_pays=False)
    if fused and _fused_failure(vae.device) is None:
        from stages.models.fused.vae import fuse_decoder

        fuse_decoder(vae)


def choose_kernels(runtime: Runtime, device: torch.device, *, covered: bool, compile_pays: bool) -> tuple[str, bool]:
    """Return what to compile (off, regional or full), and whether to use the fused kernels.

    They exclude each other: the compiler fuses the same operations. `auto` takes the fused kernels on a GPU, or if
    they are off or do not cover the model, regional compilation where it pays.
    """
    if runtime.compile in ("regional", "full"):
        return runtime.compile, False
    on_gpu = device.type == "cuda"
    fused = runtime.fused_kernels is True or (runtime.fused_kernels == "auto" and on_gpu and covered)
    pays = runtime.compile == "auto" and on_gpu and not fused and compile_pays
    return "regional" if pays else "off", fused


def _xformers_failure(device: torch.device, dtype: torch.dtype) -> str | None:
    """Run xformers' attention once, and return why it fails, or None."""
    try:
        import xformers.ops

        sample = torch.randn(1, 64, 1, 40, device=device, dtype=dtype, requires_grad=True)
        xformers.ops.memory_efficient_attention(sample, sample, sample).sum().backward()
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        return _first_line(error)
    return None


def _fused_failure(device: torch.device) -> str | None:
    """Run a fused kernel once, and return why it fails, or None."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return "they need an NVIDIA GPU of compute capability 8.0 or newer"
    try:
        from stages.models.fused import unet

        unet.check(device)
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _compile(denoiser: torch.nn.Module, mode: str) -> None:
    torch._dynamo.config.recompile_limit = 64
    if mode == "full":
        denoiser.compile(dynamic=False)
    elif mode == "regional":
        # diffusers names the blocks of a UNet here, but not those of Stable Diffusion 3's transformer.
        denoiser._repeated_blocks = denoiser._repeated_blocks or denoiser._no_split_modules
        denoiser.compile_repeated_blocks(dynamic=False)
