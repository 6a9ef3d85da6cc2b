"""The diffusion loss of a batch, and its gradient with respect to the embedding; on CUDA one graph per micro-batch.

Legend: B batch, V vectors of the embedding, D width, c h w latent.
"""

import functools

import torch
from accelerate import Accelerator
from torch.nn import functional as F

from stages import UserError
from stages.inversion.sampler import Batch
from stages.models.backbone import Backbone
from stages.models.cuda_graph import GraphedFunction, GraphMemory, Tensors, fits_in_memory
from stages.models.sharding import is_sharded


class DiffusionLoss:
    """The mean squared error of the denoiser's predictions, computed `micro_batch` samples at a time."""

    def __init__(self, backbone: Backbone, batch_size: int, micro_batch: int | str, *, graph: bool) -> None:
        self._backbone, self._batch_size, self.device = backbone, batch_size, backbone.device
        self.sharded = is_sharded(backbone.denoiser)
        self.micro_batch = (1 if self.sharded else batch_size) if micro_batch == "auto" else micro_batch
        self._recomputes, self._gradient, self._forward = False, self._loss_and_gradient, self._losses
        if graph:
            memory = GraphMemory()
            self._gradient, self._forward = (GraphedFunction(f, memory) for f in (self._gradient, self._forward))

    def gradient(self, vectors: torch.Tensor, scale: float, batch: Batch) -> torch.Tensor:
        """Return the loss and its gradient times `scale`, flattened together (1 + V D), on the device.

        Both are sums over this process's samples, divided by the global batch size: the sum over micro-batches and
        processes is the mean over the global batch. The call does not wait for the device.
        """
        vectors = vectors.to(self.device, non_blocking=True)
        scale = torch.full((), scale, device=self.device)
        parts = []
        for start in range(0, len(batch), self.micro_batch):
            loss, gradient = self._gradient(vectors, scale, *batch[start : start + self.micro_batch].tensors())
            parts.append(torch.cat([loss[None], gradient.flatten()]))
        return functools.reduce(torch.add, parts)

    @torch.no_grad()
    def losses(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the unweighted loss of every sample (B), on the CPU."""
        vectors, size = vectors.to(self.device), self._forward_batch
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        return torch.cat(
            [torch.zeros(0), *(self._forward(vectors, *part.tensors())[0].float().cpu() for part in parts)]
        )

    def fit_micro_batch(
        self,
        vectors: torch.Tensor,
        batch: Batch,
        validation: Batch,
        checkpointing: bool | str,
        accelerator: Accelerator,
    ) -> None:
        """Halve the micro-batch until the loss and its gradient fit into the memory of all processes.

        Gradient checkpointing `auto` is the last resort. Nothing is tried on a CPU: the OS kills the process there, so
        there is no exception to catch. Nor is with a sharded model, which takes the least memory from the start: a
        process that runs out of it would leave the others waiting.
        """
        if checkpointing is True or (checkpointing == "auto" and self.sharded):
            self._enable_checkpointing()
        batch, validation = batch.to(self.device), validation.to(self.device)
        tries = self.device.type != "cpu" and not self.sharded
        while tries and not self._fits(vectors, batch, validation):
            if self.micro_batch > 1:
                self.micro_batch = (self.micro_batch + 1) // 2
            elif checkpointing == "auto":
                checkpointing = True
                self._enable_checkpointing()
            else:
                raise UserError(
                    "not one sample fits into memory; lower `curate.resolution`, set `train.mixed_precision: fp16`, "
                    "set `runtime.offload: true`, allow `runtime.gradient_checkpointing`, or raise its `memory_gib`."
                )
        self.micro_batch = int(accelerator.gather(torch.tensor([self.micro_batch], device=self.device)).min())

    def _fits(self, vectors: torch.Tensor, batch: Batch, validation: Batch) -> bool:
        def attempt() -> None:
            self.gradient(vectors, 1.0, batch)
            self.losses(vectors, validation[: self._forward_batch])

        return fits_in_memory(attempt, (self._gradient, self._forward))

    @property
    def _forward_batch(self) -> int:
        """Return how many losses are computed at once where no gradient is needed, which takes less memory."""
        return self.micro_batch if self._recomputes else 2 * self.micro_batch

    def _enable_checkpointing(self) -> None:
        self._recomputes = True
        self._backbone.enable_gradient_checkpointing()

    def _loss_and_gradient(self, vectors: torch.Tensor, scale: torch.Tensor, *batch: torch.Tensor) -> Tensors:
        vectors = vectors.detach().requires_grad_()
        (losses,) = self._losses(vectors, *batch)
        loss = (losses * batch[-1]).sum() / self._batch_size
        (gradient,) = torch.autograd.grad(loss * scale, vectors)
        return loss.detach(), gradient

    def _losses(self, vectors: torch.Tensor, *batch: torch.Tensor) -> Tensors:
        latents, noise, timesteps, ids, sizes, _ = batch
        schedule = self._backbone.schedule
        noisy = schedule.add_noise(latents, noise, timesteps)
        predicted = self._backbone.predict(noisy, timesteps, self._backbone.encode_prompt(ids, vectors), sizes)
        target = schedule.target(latents, noise, timesteps)
        return (F.mse_loss(predicted, target, reduction="none").flatten(1).mean(1),)
