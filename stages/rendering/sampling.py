"""Render jobs in batches; a render does not depend on the others of its batch.

On a GPU that holds up to rounding. On a CPU jobs are rendered one at a time, because its kernels for other batch sizes
round differently, and are not faster.

Legend: B batch, c h w latent, H W image, G 2 with classifier-free guidance and else 1, W L D prompt embeddings.
"""

import inspect
from collections.abc import Iterator

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from PIL import Image

from stages import UserError
from stages.common.runtime import Runtime
from stages.models.acceleration import accelerate_denoiser, accelerate_vae
from stages.models.cuda_graph import GraphedFunction, Tensors, fits_in_memory
from stages.models.philox import generator, normal
from stages.models.weight_storage import is_offloaded, move
from stages.rendering.adapters import ADAPTERS
from stages.rendering.jobs import Job, RenderInputs
from stages.rendering.load_embedding import load_embedding
from stages.rendering.metadata import parameters
from stages.rendering.params import Render
from stages.rendering.pipeline import open_pipeline
from stages.rendering.prompts import PromptEncoder

LARGEST_BATCH = {"cuda": 16, "mps": 1, "cpu": 1}  # images; larger ones of 512 px are hardly faster on an H100
DECODED_PIXELS = 2**20  # at once; the VAE is not faster with more images than four of 512 px, and takes more memory


class ImageSampler:
    """Samples images from the base model with the learned embeddings; every prompt is encoded once."""

    def __init__(self, inputs: RenderInputs, runtime: Runtime, device: torch.device) -> None:
        self._inputs, self._render, self._runtime, self._device = inputs, inputs.render, runtime, device
        pipeline = self._pipeline = open_pipeline(inputs.model, inputs.render, device)
        self._adapter = ADAPTERS[type(pipeline).__name__](pipeline, image_size(pipeline, inputs.render))
        embeddings = [load_embedding(pipeline, file, token) for token, file in inputs.embeddings().items()]
        self._prompts = PromptEncoder(self._adapter, embeddings, chunk=self._render.long_prompts == "chunk")
        denoiser, (width, height) = getattr(pipeline, self._adapter.denoiser), self._adapter.size
        factor = pipeline.vae_scale_factor
        self._latents, self._dtype = (denoiser.config.in_channels, height // factor, width // factor), denoiser.dtype
        self._denoiser: torch.nn.Module | None = None
        self._warnings: list[str] = []
        self._predict = GraphedFunction(self._call_denoiser) if device.type == "cuda" else self._call_denoiser
        limit = LARGEST_BATCH[device.type]
        self._limit = limit if runtime.micro_batch == "auto" else min(limit, runtime.micro_batch)

    def parameters(self, job: Job, image: Image.Image) -> str:
        """Return the text chunk of the image that the sampler returns for a job."""
        return parameters(self._inputs, job, type(self._pipeline.scheduler).__name__, image.size)

    @torch.no_grad()
    def prepare(self, jobs: list[Job]) -> list[str]:
        """Prepare the sampling of jobs: encode prompts, move the denoiser; return a warning for each that is cut.

        The text encoders leave the device before the denoiser and the VAE come.
        """
        self._prompts.prepare(
            [self._render.negative_prompt, *(job.text for job in jobs)], self._device, self._runtime.offload
        )
        if self._denoiser is None:
            denoiser = getattr(self._pipeline, self._adapter.denoiser)
            move(denoiser, self._device, self._runtime.offload, self._adapter.memory_format)
            if is_offloaded(denoiser):
                self._predict = self._call_denoiser  # no CUDA graph with weights that are copied from host memory
            accelerate_vae(self._pipeline.vae.to(self._device), self._runtime)
            self._denoiser, _, self._warnings = accelerate_denoiser(denoiser, self._runtime)
        return self._prompts.warnings + self._warnings

    @torch.no_grad()
    def batches(self, jobs: list[Job]) -> Iterator[list[tuple[Job, Image.Image]]]:
        """Yield the jobs of every batch with their images. A batch has one setting and one number of windows."""
        self.prepare(jobs)
        limit = self._limit
        for key in sorted({(self._windows(job), job.setting) for job in jobs}):
            group = [job for job in jobs if (self._windows(job), job.setting) == key]
            limit = size = self._fit_batch(group, limit)
            for start in range(0, len(group), size):
                batch = group[start : start + size]
                # Filled up, since a smaller batch would be another graph.
                images = self._sample_images([*batch, *batch[-1:] * (size - len(batch))])
                yield list(zip(batch, images, strict=False))

    def _windows(self, job: Job) -> int:
        return max(self._prompts.windows(text) for text in (job.text, self._render.negative_prompt))

    def _fit_batch(self, jobs: list[Job], limit: int) -> int:
        """Return a sampling batch size up to `limit` that fits into memory, found by halving.

        Decoding in tiles is the last resort, because it changes the image where tiles meet.
        """
        size = balanced(len(jobs), limit)
        while not self._fits(jobs[:size]):
            if size > 1:
                size = balanced(len(jobs), (size + 1) // 2)
            elif not self._pipeline.vae.use_tiling:
                self._pipeline.vae.enable_tiling()
            else:
                raise UserError(
                    "not one image fits into memory; lower `render.height` and `render.width`, set `render.precision: "
                    "fp16` or `runtime.offload: true`, or raise `runtime.memory_gib`."
                )
        return size

    def _fits(self, jobs: list[Job]) -> bool:
        """Try a batch with the denoiser, which captures its graph, and the VAE. On a CPU no error could be caught."""
        if self._device.type == "cpu":
            return True

        def attempt() -> None:
            latents, prompts = self._noise(jobs), self._encoded(jobs)
            inputs = _repeated(latents, prompts)
            self._predict(inputs, torch.zeros(len(inputs), device=self._device), *prompts)
            self._decode(latents)

        return fits_in_memory(attempt, [self._predict])

    def _sample_images(self, jobs: list[Job]) -> list[Image.Image]:
        images = self._decode(self._sample(jobs))
        for job, is_finite in zip(jobs, images.isfinite().flatten(1).all(1).tolist(), strict=True):
            if not is_finite:
                raise UserError(f"{job.file} contains NaN or Inf; set `render.precision: fp32` or train again.")
        pixels = ((images * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).cpu().numpy()]

    def _sample(self, jobs: list[Job]) -> torch.Tensor:
        """Return the latents of jobs (B c h w): the loop of diffusers' pipelines with the same arithmetic.

        The scheduler's timesteps stay on the CPU. The pipeline's are on the GPU, and every step waits for them.
        """
        scheduler, (steps, scale, _) = self._pipeline.scheduler, jobs[0].setting
        scheduler.set_timesteps(steps)
        takes_noise = "generator" in inspect.signature(scheduler.step).parameters
        options = {"generator": [step_noise(job) for job in jobs]} if takes_noise else {}
        # Rectified flow starts from the noise itself, and its model takes the latents as they are.
        is_flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
        prompts, latents = self._encoded(jobs), self._noise(jobs) * (1 if is_flow else scheduler.init_noise_sigma)
        for timestep, on_device in zip(scheduler.timesteps, scheduler.timesteps.to(self._device), strict=True):
            inputs = _repeated(latents, prompts)
            inputs = inputs if is_flow else scheduler.scale_model_input(inputs, timestep)
            (predicted,) = self._predict(inputs, on_device.expand(len(inputs)), *prompts)
            if len(predicted) > len(latents):
                unconditional, conditional = predicted.chunk(2)
                predicted = unconditional + scale * (conditional - unconditional)
            latents = scheduler.step(predicted, timestep, latents, **options, return_dict=False)[0]
        return latents

    def _call_denoiser(self, latents: torch.Tensor, timesteps: torch.Tensor, *prompts: torch.Tensor) -> Tensors:
        return self._adapter.predict(self._denoiser, latents, timesteps, *prompts)

    def _encoded(self, jobs: list[Job]) -> Tensors:
        """Return the encoded prompts of a sampled batch, embeddings (G x B W x L D) first, negative prompts leading."""
        windows, negative = self._windows(jobs[0]), []
        if jobs[0].setting.guidance_scale > 1:
            negative = [self._prompts.encode_negative(self._render.negative_prompt, windows)] * len(jobs)
        encoded = [*negative, *(self._prompts.encode(job.text, windows) for job in jobs)]
        return tuple(torch.stack(tensors) for tensors in zip(*encoded, strict=True))

    def _noise(self, jobs: list[Job]) -> torch.Tensor:
        """Return the initial noise (B c h w). It depends on the seed alone, and is the same for all subjects."""
        return torch.stack([initial_noise(job, self._latents) for job in jobs]).to(self._device, self._dtype)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode sampled latents (B c h w) to images (B 3 H W) in about [-1, 1], float32."""
        vae, (width, height) = self._pipeline.vae, self._adapter.size
        parts = self._adapter.unscale(latents.to(vae.dtype)).split(max(1, DECODED_PIXELS // (width * height)))
        return torch.cat([vae.decode(part, return_dict=False)[0].float() for part in parts])


def image_size(pipeline: DiffusionPipeline, render: Render) -> tuple[int, int]:
    """Return the width and height of sampled images in pixels; by default those that the model was trained with."""
    denoiser, factor = getattr(pipeline, "unet", None) or pipeline.transformer, pipeline.vae_scale_factor
    width, height = (size // factor if size else denoiser.config.sample_size for size in (render.width, render.height))
    return width * factor, height * factor


def balanced(count: int, limit: int) -> int:
    """Return the size of batches of `count` images: as few as possible, of at most `limit`, all nearly equal."""
    batches = -(-count // limit)
    return -(-count // batches)


def _repeated(latents: torch.Tensor, prompts: Tensors) -> torch.Tensor:
    """Return latents (B c h w) for the denoiser, once or twice (G x B c h w), as the prompts are."""
    return torch.cat([latents] * (len(prompts[0]) // len(latents)))


def initial_noise(job: Job, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the latents from which a job starts."""
    return torch.from_numpy(normal(job.seed, "render", 0, 0, shape))


def step_noise(job: Job) -> torch.Generator:
    """Return the generator of the noise that some samplers add between steps; it depends on the seed alone, too."""
    return torch.Generator().manual_seed(int(generator(job.seed, "render", 1, 0).integers(2**63)))
