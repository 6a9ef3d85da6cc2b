"""Render jobs in batches; a render does not depend on the others of its batch.

On a GPU that holds up to rounding. On a CPU jobs are rendered one at a time, because its kernels for other batch sizes
round differently, and are not faster.

Legend: B batch, c h w latent, H W image, G 2 with classifier-free guidance and else 1, W L D prompt embeddings.
"""

from collections.abc import Iterator

import torch
from PIL import Image

from stages import UserError
from stages.common.runtime import Runtime
from stages.models.acceleration import accelerate_denoiser
from stages.models.cuda_graph import GraphedFunction, Tensors, fits_in_memory
from stages.models.noise import generator, normal
from stages.rendering.jobs import Job, RenderInputs
from stages.rendering.metadata import parameters
from stages.rendering.pipeline import add_embedding, open_pipeline
from stages.rendering.prompts import PromptEncoder

LARGEST_BATCH = {"cuda": 16, "mps": 1, "cpu": 1}  # images; larger ones of 512 px are hardly faster on an H100
DECODED_PIXELS = 2**19  # at once; the VAE is as fast with two images of 512 px as with more, and takes less memory


class ImageSampler:
    """Samples images from the base model with the learned embeddings; every prompt is encoded once."""

    def __init__(self, inputs: RenderInputs, runtime: Runtime, device: torch.device) -> None:
        self._inputs, self._render, self._device = inputs, inputs.render, device
        self._pipeline = open_pipeline(inputs.model, inputs.render, device)
        for token, file in inputs.embeddings().items():
            add_embedding(self._pipeline, token, file)
        self._prompts = PromptEncoder(
            self._pipeline, list(inputs.embeddings()), chunk=self._render.long_prompts == "chunk"
        )
        factor, unet = self._pipeline.vae_scale_factor, self._pipeline.unet
        sizes = (self._render.height, self._render.width)
        h, w = (size // factor if size else unet.config.sample_size for size in sizes)
        self._latents, self.size = (unet.config.in_channels, h, w), (w * factor, h * factor)
        self._dtype = unet.dtype
        calls = sum(job.setting.steps for job in inputs.jobs())
        self._unet, _, self._warnings = accelerate_denoiser(unet, runtime, calls)
        self._predict = GraphedFunction(self._call_unet) if device.type == "cuda" else self._call_unet
        limit = LARGEST_BATCH[device.type]
        self._limit = limit if runtime.micro_batch == "auto" else min(limit, runtime.micro_batch)

    def parameters(self, job: Job, image: Image.Image) -> str:
        """Return the text that is saved with the image of a job."""
        return parameters(self._inputs, job, type(self._pipeline.scheduler).__name__, image.size)

    @torch.no_grad()
    def prepare(self, jobs: list[Job]) -> list[str]:
        """Encode the prompts of jobs; return warnings, one for every prompt that is cut off."""
        for text in [self._render.negative_prompt, *(job.text for job in jobs)]:
            self._prompts.encode(text)
        return self._prompts.warnings + self._warnings

    @torch.no_grad()
    def batches(self, jobs: list[Job]) -> Iterator[list[tuple[Job, Image.Image]]]:
        """Yield the jobs of every batch with their images. A batch has one setting and one number of windows."""
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
        """Return a batch size up to `limit` that fits into memory, found by halving.

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
                    "fp16`, or raise `runtime.memory_gib`."
                )
        return size

    def _fits(self, jobs: list[Job]) -> bool:
        """Call the UNet, which captures its graph, and the VAE once. On a CPU no exception could be caught."""
        if self._device.type == "cpu":
            return True

        def attempt() -> None:
            latents = self._noise(jobs)
            embeds = self._prompt_embeds(jobs)
            timesteps = torch.zeros(len(embeds), device=self._device)
            self._predict(_repeated(latents, embeds), timesteps, embeds)
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
        """Return the latents of jobs (B c h w): the loop of StableDiffusionPipeline with the same arithmetic.

        The scheduler's timesteps stay on the CPU. The pipeline's are on the GPU, and every step waits for them.
        """
        scheduler, (steps, scale, _) = self._pipeline.scheduler, jobs[0].setting
        scheduler.set_timesteps(steps)
        options = self._pipeline.prepare_extra_step_kwargs([step_noise(job) for job in jobs], 0.0)
        embeds, latents = self._prompt_embeds(jobs), self._noise(jobs) * scheduler.init_noise_sigma
        for timestep, on_device in zip(scheduler.timesteps, scheduler.timesteps.to(self._device), strict=True):
            inputs = scheduler.scale_model_input(_repeated(latents, embeds), timestep)
            (predicted,) = self._predict(inputs, on_device.expand(len(inputs)), embeds)
            if len(predicted) > len(latents):
                unconditional, conditional = predicted.chunk(2)
                predicted = unconditional + scale * (conditional - unconditional)
            latents = scheduler.step(predicted, timestep, latents, **options, return_dict=False)[0]
        return latents

    def _call_unet(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> Tensors:
        return self._unet(latents, timesteps, prompt_embeds, return_dict=False)

    def _prompt_embeds(self, jobs: list[Job]) -> torch.Tensor:
        """Return prompt embeddings (G x B W x L D), those of the negative prompt first."""
        windows = self._windows(jobs[0])
        negative = [self._render.negative_prompt] * len(jobs) if jobs[0].setting.guidance_scale > 1 else []
        return torch.stack([self._prompts.encode(text, windows) for text in [*negative, *(job.text for job in jobs)]])

    def _noise(self, jobs: list[Job]) -> torch.Tensor:
        """Return the initial noise (B c h w). It depends on the seed alone, and is the same for all subjects."""
        return torch.stack([initial_noise(job, self._latents) for job in jobs]).to(self._device, self._dtype)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents (B c h w) to images (B 3 H W) in about [-1, 1], float32."""
        vae = self._pipeline.vae
        parts = (latents / vae.config.scaling_factor).split(max(1, DECODED_PIXELS // (self.size[0] * self.size[1])))
        return torch.cat([vae.decode(part, return_dict=False)[0].float() for part in parts])


def balanced(count: int, limit: int) -> int:
    """Return the size of as few batches as possible of at most `limit`, all nearly equal."""
    batches = -(-count // limit)
    return -(-count // batches)


def _repeated(latents: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
    """Return latents (B c h w) for the UNet, once or twice (G x B c h w), as the prompt embeddings are."""
    return torch.cat([latents] * (len(embeds) // len(latents)))


def initial_noise(job: Job, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the latents from which a job starts."""
    return torch.from_numpy(normal(job.seed, "render", 0, 0, shape))


def step_noise(job: Job) -> torch.Generator:
    """Return the generator of the noise that some schedulers add between steps; it depends on the seed alone, too."""
    return torch.Generator().manual_seed(int(generator(job.seed, "render", 1, 0).integers(2**63)))
