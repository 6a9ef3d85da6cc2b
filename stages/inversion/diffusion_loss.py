"""A batch and the word's vectors => loss and gradient; eager, or captured once and replayed as a CUDA graph.

Legend: B batch, V vectors of the word, D width, c h w latent.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from stages import UserError
from stages.inversion.sampler import Batch
from stages.models.backbone import Backbone

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Speed:
    """What changes only how fast or in how much memory a batch is computed.

    `ahead` is how many steps more are launched before the oldest one is read: 1 keeps a device busy that works by
    itself, 0 waits for every step.
    """

    micro_batch: int | None = None
    gradient_checkpointing: bool | None = None
    graph: bool = False
    ahead: int = 0


class Compute:
    """The arithmetic of a step on one device, in pieces of `micro_batch` samples."""

    def __init__(self, backbone: Backbone, speed: Speed, batch_size: int) -> None:
        self._backbone, self._size, self.device = backbone, batch_size, backbone.device
        self._gradient = Graphed(self._gradient_of) if speed.graph else self._gradient_of
        self._forward = Graphed(self._losses_of) if speed.graph else self._losses_of
        self._scale: tuple[float, torch.Tensor] | None = None
        self.micro_batch, self.ahead = speed.micro_batch or batch_size, speed.ahead

    @property
    def chunk(self) -> int:
        """How many samples are judged at once: without a backward pass, twice as many take less memory."""
        return 2 * self.micro_batch

    def load(self, batch: Batch) -> Batch:
        """Samples, in memory => on the device, while it may be at work on others."""
        return batch.to(self.device)

    def gradient(self, vectors: torch.Tensor, scale: float, batch: Batch) -> torch.Tensor:
        """vectors (V D), loss scale, this process's samples on the device => (1 + V D) there: loss, scaled gradient.

        Both are sums over the samples divided by the global batch size: a sum over micro-batches and processes is the
        mean over the batch. Nothing waits for the device here.
        """
        vectors = vectors.to(self.device, non_blocking=True)
        if self._scale is None or self._scale[0] != scale:
            self._scale = scale, torch.full((), scale, device=self.device)
        parts = []
        for start in range(0, len(batch), self.micro_batch):
            part = batch.part(start, start + self.micro_batch)
            loss, gradient = self._gradient(vectors, self._scale[1], *part.tensors())
            parts.append(torch.cat([loss[None], gradient.flatten()]))
        return functools.reduce(torch.add, parts)

    def fetch(self, tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
        """A tensor on the device => a function that waits until it is known, and gives it in memory.

        On CUDA the copy is queued behind what the device has to do by now, into pinned memory of its own, so that
        calling the function waits for nothing that was launched later.
        """
        if self.device.type != "cuda":
            return tensor.cpu
        here, done = tensor.to("cpu", non_blocking=True), torch.cuda.Event()
        done.record()

        def known() -> torch.Tensor:
            done.synchronize()
            return here

        return known

    @torch.no_grad()
    def losses(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        """vectors (V D), samples on the device => mean squared error of each (B), unweighted."""
        return self._forward(vectors.to(self.device), *batch.tensors())[0]

    def fit(self, vectors: torch.Tensor, batch: Batch, fixed: Batch, checkpointing: bool | None) -> None:
        """Try a step and an evaluation; halve the micro-batch while memory runs out, and recompute activations as the
        last resort.

        A CPU is not tried: its memory runs out by the hand of the system, which no program can catch.
        """
        if checkpointing:
            self._backbone.checkpoint_gradients()
        while self.device.type != "cpu":
            try:
                self.gradient(vectors, 1.0, self.load(batch))
                self.losses(vectors, self.load(fixed.part(0, self.chunk)))
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                return
            except RuntimeError as error:
                if not ran_out(error):
                    raise
            # Outside of the handler: its traceback would keep the tensors that have to go.
            self._forget()
            if self.micro_batch > 1:
                self.micro_batch = (self.micro_batch + 1) // 2
            elif checkpointing is None:
                checkpointing = True
                self._backbone.checkpoint_gradients()
            else:
                raise UserError(
                    "not one sample fits into memory; lower `curate.resolution`, set `train.mixed_precision: fp16`, "
                    "allow `runtime.gradient_checkpointing`, or raise `runtime.memory_gib`."
                )

    def _forget(self) -> None:
        for function in (self._gradient, self._forward):
            if isinstance(function, Graphed):
                function.forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _gradient_of(self, vectors: torch.Tensor, scale: torch.Tensor, *batch: torch.Tensor) -> Tensors:
        vectors = vectors.detach().requires_grad_()
        (losses,) = self._losses_of(vectors, *batch)
        loss = (losses * batch[-1]).sum() / self._size
        (gradient,) = torch.autograd.grad(loss * scale, vectors)
        return loss.detach(), gradient

    def _losses_of(self, vectors: torch.Tensor, *batch: torch.Tensor) -> Tensors:
        latents, noise, timesteps, ids, _ = batch
        schedule = self._backbone.schedule
        noisy = schedule.add_noise(latents, noise, timesteps)
        predicted = self._backbone.predict(noisy, timesteps, self._backbone.context(ids, vectors))
        target = schedule.target(latents, noise, timesteps)
        return (F.mse_loss(predicted, target, reduction="none").flatten(1).mean(1),)


def ran_out(error: BaseException | None) -> bool:
    """Whether memory ran out; a capture that it cut short fails in its own words, with the cause behind it."""
    return error is not None and (isinstance(error, torch.OutOfMemoryError) or ran_out(error.__context__))


class Graphed:
    """A function of tensors => the same, launched as one CUDA graph for every shape that it has met.

    The graphs share one pool: they run one after the other, and what they return is copied out before the next.
    """

    def __init__(self, function: Callable[..., Tensors]) -> None:
        self._function = function
        self._graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, Tensors, Tensors]] = {}
        self._pool = None

    def __call__(self, *inputs: torch.Tensor) -> Tensors:
        key = tuple((tuple(tensor.shape), torch.is_grad_enabled()) for tensor in inputs)
        if key not in self._graphs:
            self._graphs[key] = self._capture(inputs)
        graph, held, outputs = self._graphs[key]
        for place, tensor in zip(held, inputs, strict=True):
            place.copy_(tensor, non_blocking=True)
        graph.replay()
        return tuple(output.clone() for output in outputs)

    def forget(self) -> None:
        """The graphs and their memory go."""
        self._graphs.clear()
        self._pool = None

    def _capture(self, inputs: Tensors) -> tuple[torch.cuda.CUDAGraph, Tensors, Tensors]:
        held = tuple(tensor.clone() for tensor in inputs)
        # Two runs beside the graph: libraries choose kernels and take workspaces that a capture must not.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._function(*held)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = self._function(*held)
        return graph, held, outputs
