"""Render jobs one at a time, so that no image depends on those before it.

Legend: h w latent, L tokens of a prompt, D width.
"""

import numpy as np
import torch
from PIL import Image

from stages import UserError
from stages.models.noise import generator, normal
from stages.rendering.jobs import Job, RenderInputs
from stages.rendering.pipeline import add_embedding, open_pipeline


class ImageSampler:
    """Samples images from the base model with the learned embedding; prompts are encoded once for all seeds."""

    def __init__(self, inputs: RenderInputs, device: torch.device) -> None:
        self._render, self._placeholder = inputs.render, inputs.concept.placeholder_token
        self._pipeline = open_pipeline(inputs.model, inputs.render, device)
        add_embedding(self._pipeline, self._placeholder, inputs.embedding)
        self._prompt_embeds: dict[str, torch.Tensor] = {}
        self._factor, unet = self._pipeline.vae_scale_factor, self._pipeline.unet.config
        sizes = (self._render.height, self._render.width)
        h, w = (size // self._factor if size else unet.sample_size for size in sizes)
        self._latents = (1, unet.in_channels, h, w)

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
            height=self._latents[2] * self._factor,
            width=self._latents[3] * self._factor,
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
