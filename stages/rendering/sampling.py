"""Render jobs one at a time, so that no image depends on those before it.

Legend: h w latent, L tokens of a prompt, D width.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from stages import UserError
from stages.models.noise import generator, normal
from stages.rendering.cache import RenderCache
from stages.rendering.jobs import Job, RenderInputs
from stages.rendering.params import Render
from stages.rendering.pipeline import add_embedding, open_pipeline

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def render_missing(inputs: RenderInputs, cache: RenderCache, device: torch.device) -> None:
    """Render the jobs that are missing in the cache; the model is loaded only if there are any."""
    jobs = cache.missing()
    if not jobs:
        return
    pipeline = open_pipeline(inputs.model, inputs.render.scheduler, device, DTYPES[inputs.render.precision])
    add_embedding(pipeline, inputs.concept.placeholder_token, inputs.embedding)
    sampler = ImageSampler(pipeline, inputs.render, inputs.concept.placeholder_token)
    for job in tqdm(jobs, "render", unit="image"):
        cache.write(job, sampler(job))


class ImageSampler:
    """Samples images from a pipeline; the embeddings of a prompt are computed once for all seeds."""

    def __init__(self, pipeline: "StableDiffusionPipeline", render: Render, placeholder: str) -> None:
        self._pipeline, self._render, self._placeholder = pipeline, render, placeholder
        self._prompt_embeds: dict[str, torch.Tensor] = {}
        factor, side = pipeline.vae_scale_factor, pipeline.unet.config.sample_size
        h, w = (size // factor if size else side for size in (render.height, render.width))
        self._latents, self._height, self._width = (1, pipeline.unet.config.in_channels, h, w), h * factor, w * factor

    @torch.inference_mode()
    def __call__(self, job: Job) -> Image.Image:
        """Render a job. The noise depends on the seed alone, so both subjects of a prompt start from the same noise.

        Schedulers that add noise between steps draw it from a generator that depends on the seed alone, too.
        """
        noise = torch.from_numpy(normal(job.seed, "render", 0, 0, self._latents))
        step_noise = torch.Generator().manual_seed(int(generator(job.seed, "render", 1, 0).integers(2**63)))
        is_guided = self._render.guidance_scale > 1
        pixels = self._pipeline(
            prompt_embeds=self._encode(job.text),
            negative_prompt_embeds=self._encode(self._render.negative_prompt) if is_guided else None,
            height=self._height,
            width=self._width,
            latents=noise.to(self._pipeline.device, self._pipeline.unet.dtype),
            generator=step_noise,
            num_inference_steps=self._render.steps,
            guidance_scale=self._render.guidance_scale,
            output_type="np",
        ).images
        if not np.isfinite(pixels).all():
            raise UserError(f"{job.file} contains NaN or Inf; set `render.precision: fp32` or train again.")
        return self._pipeline.numpy_to_pil(pixels)[0]

    def _encode(self, text: str) -> torch.Tensor:
        """Return the embeddings of a prompt (1 L D). Raises UserError if truncation cuts the placeholder token."""
        if text not in self._prompt_embeds:
            self._check_length(text)
            self._prompt_embeds[text], _ = self._pipeline.encode_prompt(text, self._pipeline.device, 1, False)
        return self._prompt_embeds[text]

    def _check_length(self, text: str) -> None:
        if self._placeholder not in text:
            return
        tokenizer = self._pipeline.tokenizer
        expanded = self._pipeline.maybe_convert_prompt(text, tokenizer)
        ids = tokenizer(expanded, truncation=True, max_length=tokenizer.model_max_length).input_ids
        tokens = [token for token in tokenizer.added_tokens_encoder if token.startswith(self._placeholder)]
        if not set(tokenizer.convert_tokens_to_ids(tokens)) <= set(ids):
            raise UserError(
                f"the prompt {text!r} has no room for {self._placeholder} within {tokenizer.model_max_length} tokens; "
                "move {} closer to the start."
            )
