"""Shard the frozen denoiser and a trained T5 over the processes of a run, by PyTorch's FSDP2 (`fully_shard`).

A process keeps its part of every weight, gathers the weights of one block at a time for a call or a gradient, and
computes its own samples. accelerate's config asks for it; its own wrapping is for models that are trained.
"""

import os

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from diffusers import ModelMixin
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import T5EncoderModel

from stages import UserError
from stages.common.runtime import Runtime
from stages.models.embedding import ExtendedEmbedding
from stages.models.params import Model


def sharding_plugin(model: Model, runtime: Runtime) -> FullyShardedDataParallelPlugin | None:
    """Return the settings of FSDP2 in accelerate's config, or None. Raises UserError for settings without a meaning."""
    if _is_on("ACCELERATE_USE_DEEPSPEED"):
        raise UserError("DeepSpeed is not supported; use `accelerate launch --use_fsdp --fsdp_version 2`.")
    if not _is_on("ACCELERATE_USE_FSDP"):
        return None
    if os.environ.get("FSDP_VERSION") != "2":
        raise UserError("FSDP of version 1 is not supported; add `--fsdp_version 2` to `accelerate launch`.")
    if model.storage_dtype:
        raise UserError("`model.storage_dtype` and FSDP exclude each other; set it to null, or leave `--use_fsdp` out.")
    if runtime.offload is True:
        raise UserError("`runtime.offload: true` and FSDP exclude each other; add `--fsdp_offload_params true`.")
    # Every process loads the weights; some versions of transformers would load them only in the first one.
    return FullyShardedDataParallelPlugin(cpu_ram_efficient_loading=False)


def shard(model: nn.Module, device: torch.device, plugin: FullyShardedDataParallelPlugin | None) -> None:
    """Shard a denoiser or T5 over all processes, each block on its own; the parts move from the CPU to `device`.

    Token embeddings stay whole, because the new rows are passed to them by `torch.func.functional_call`, and so does
    CLIP, which is small.
    """
    if not (plugin and torch.distributed.is_initialized() and isinstance(model, ModelMixin | T5EncoderModel)):
        return
    model.to(memory_format=torch.contiguous_format)  # FSDP shards no other format, such as channels-last
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    tables = [module for module in model.modules() if isinstance(module, ExtendedEmbedding)]
    ignored = {parameter for table in tables for parameter in table.to(device).parameters()}
    options = {"mesh": mesh, "offload_policy": plugin.cpu_offload, "ignored_params": ignored}
    for module in reversed(list(model.modules())):  # inner blocks before those around them
        if type(module).__name__ in model._no_split_modules:
            fully_shard(module, reshard_after_forward=plugin.reshard_after_forward, **options)
    fully_shard(model, **options)


def is_sharded(model: nn.Module) -> bool:
    """Return whether a model is sharded."""
    return isinstance(model, FSDPModule)


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"
