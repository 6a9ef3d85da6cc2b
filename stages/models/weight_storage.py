"""Store the weights of frozen layers in 8 bits or in host memory, and restore one layer at a time for its use.

A layer is restored for a call, and again for the gradient of its input.

diffusers' layerwise casting is for inference: autograd keeps the restored weights of all layers for the backward pass,
and the gradient of a convolution fails. Here autograd keeps nothing of the weights.

Legend: x the input of a layer.
"""

import re

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from stages import UserError

FP8 = torch.float8_e4m3fn
REPEATED = re.compile(r"\.\d+\.")  # in the name of a layer of one of a model's repeated blocks


class _Apply(torch.autograd.Function):
    """Call a layer with its restored weight, and restore it again for the gradient of the input."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, layer: "StoredLayer") -> torch.Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        return layer.output(x, layer.restored(x.device))

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.layer.input_gradient(grad, ctx.layer.restored(grad.device), ctx.shape), None


class StoredLayer(nn.Module):
    """A frozen layer whose weight is stored as it is, in 8 bits, or in host memory. Its bias is on the device."""

    weight = None  # so that no library takes its precision for that of the computation

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.dtype, self.bias, self.scale = layer.weight.dtype, layer.bias, 1.0
        self.register_buffer("stored", layer.weight.detach())

    def to_fp8(self) -> None:
        """Store the weight in 8 bits, times a power of two, which uses the range of the format and rounds nothing."""
        largest = self.stored.abs().max().float().clamp(min=1e-12)
        # An exponent below -24 is no number of fp16.
        self.scale = 2.0 ** -min(24, int(torch.floor(torch.log2(torch.finfo(FP8).max / largest))))
        self.stored = (self.stored.float() / self.scale).to(FP8)

    def to_host(self, *, pinned: bool) -> None:
        """Keep the weight in host memory from now on; from pinned memory a copy does not block the host."""
        stored = self.stored.cpu()
        self._buffers.pop("stored", None)  # as a plain attribute it does not move with the model
        self.stored = stored.pin_memory() if pinned and not stored.is_pinned() else stored

    def restored(self, device: torch.device) -> torch.Tensor:
        """Return the weight on a device, at the precision of the computation."""
        stored = self.stored.to(device, non_blocking=True)
        return stored if stored.dtype is self.dtype else stored.to(self.dtype).mul_(self.scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the layer's output with its stored weight."""
        return _Apply.apply(x.to(self.dtype), self)


class StoredLinear(StoredLayer):
    """A frozen linear layer."""

    def output(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the layer's output with a weight restored from storage."""
        return F.linear(x, weight, self.bias)

    def input_gradient(self, grad: torch.Tensor, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Return the gradient of x, which has this shape, from the output's, with a weight restored from storage."""
        return grad @ weight


class StoredConv2d(StoredLayer):
    """A frozen convolution with zeros as padding."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(layer)
        self._options = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def output(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the layer's output with a weight restored from storage."""
        return F.conv2d(x, weight, self.bias, *self._options)

    def input_gradient(self, grad: torch.Tensor, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Return the gradient of x, which has this shape, from the output's, with a weight restored from storage."""
        return conv2d_input(shape, weight, grad, *self._options)


KINDS = {nn.Linear: StoredLinear, nn.Conv2d: StoredConv2d}


def store_in_fp8(model: nn.Module) -> None:
    """Store the weights of the repeated blocks of a frozen model in 8 bits."""
    for layer in stored_layers(model):
        layer.to_fp8()


def move(
    model: nn.Module,
    device: torch.device,
    offload: bool | str,
    memory_format: torch.memory_format = torch.preserve_format,
) -> None:
    """Move a frozen model to a device. With `offload` the weights of its repeated blocks stay in host memory.

    That is with `auto` only if the device has no room for them. Raises UserError if it has none without them.
    A GPU converts weights to another memory format faster than the host.
    """
    if offload is not True:
        try:
            model.to(device, memory_format=memory_format)
            return
        except torch.OutOfMemoryError:
            pass
    try:  # outside the handler, because its traceback keeps the tensors alive
        if offload is not False:
            for layer in stored_layers(model.to("cpu", memory_format=memory_format)):
                layer.to_host(pinned=device.type == "cuda")
            if device.type == "cuda":
                torch.cuda.empty_cache()
        model.to(device)
    except torch.OutOfMemoryError:
        raise UserError(
            "the weights of the model do not fit into memory; set `runtime.offload: true` or "
            "`model.storage_dtype: fp8`, or raise `runtime.memory_gib`."
        ) from None


def is_stored(model: nn.Module) -> bool:
    """Return whether weights of a model are stored in 8 bits or in host memory."""
    return any(isinstance(module, StoredLayer) for module in model.modules())


def is_offloaded(model: nn.Module) -> bool:
    """Return whether weights of a model are in host memory."""
    return any(isinstance(module, StoredLayer) and "stored" not in module._buffers for module in model.modules())


def stored_layers(model: nn.Module) -> list[StoredLayer]:
    """Replace the linear and convolution layers in the repeated blocks of a frozen model, and return all replaced ones.

    Norms, embeddings, and the first and last layers stay as they are.
    """
    for name, layer in list(model.named_modules()):
        if type(layer) in KINDS and REPEATED.search(name) and getattr(layer, "padding_mode", "zeros") == "zeros":
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, KINDS[type(layer)](layer))
    return [module for module in model.modules() if isinstance(module, StoredLayer)]
