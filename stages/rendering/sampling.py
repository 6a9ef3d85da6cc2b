"""One cell at a time => one picture, whatever was drawn before it.

Legend: c h w latent, L tokens of a prompt, D width.
"""

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from stages import UserError
from stages.models.noise import generator, normal
from stages.rendering.jobs import Job
from stages.rendering.params import Render

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class ImageSampler:
    """Draws with an open pipeline; what prompts say is worked out once for all seeds."""

    def __init__(self, pipeline: StableDiffusionPipeline, render: Render, placeholder: str) -> None:
        self._pipeline, self._render, self._placeholder = pipeline, render, placeholder
        self._guided = render.guidance_scale > 1
        self._meanings: dict[str, torch.Tensor] = {}
        scale, side = pipeline.vae_scale_factor, pipeline.unet.config.sample_size
        height, width = (given // scale if given else side for given in (render.height, render.width))
        self._shape = (pipeline.unet.config.in_channels, height, width)

    @torch.inference_mode()
    def __call__(self, cell: Job) -> Image.Image:
        """A cell => RGB. The noise depends on the seed alone, so that a prompt's subjects start from the same.

        Samplers that add noise on their way draw it from a generator which is counted by the seed as well.
        """
        start = torch.from_numpy(normal(cell.seed, "render", 0, 0, (1, *self._shape)))
        drawn = generator(cell.seed, "render", 1, 0).integers(2**63)
        pixels = self._pipeline(
            prompt_embeds=self._meaning(cell.text),
            negative_prompt_embeds=self._meaning(self._render.negative_prompt) if self._guided else None,
            height=self._shape[1] * self._pipeline.vae_scale_factor,
            width=self._shape[2] * self._pipeline.vae_scale_factor,
            latents=start.to(self._pipeline.device, self._pipeline.unet.dtype),
            generator=torch.Generator().manual_seed(int(drawn)),
            num_inference_steps=self._render.steps,
            guidance_scale=self._render.guidance_scale,
            output_type="np",
        ).images
        if not np.isfinite(pixels).all():
            raise UserError(
                f"the picture {cell.file} came out as no numbers; set `render.precision: fp32`, or look at the word."
            )
        return self._pipeline.numpy_to_pil(pixels)[0]

    def _meaning(self, text: str) -> torch.Tensor:
        """A prompt => (1 L D). Raises UserError where the word falls off the end."""
        if text not in self._meanings:
            self._check_room(text)
            self._meanings[text], _ = self._pipeline.encode_prompt(text, self._pipeline.device, 1, False)
        return self._meanings[text]

    def _check_room(self, text: str) -> None:
        tokenizer = self._pipeline.tokenizer
        if self._placeholder not in text:
            return
        expanded = self._pipeline.maybe_convert_prompt(text, tokenizer)
        ids = tokenizer(expanded, truncation=True, max_length=tokenizer.model_max_length).input_ids
        wanted = [token for token in tokenizer.added_tokens_encoder if token.startswith(self._placeholder)]
        if not set(tokenizer.convert_tokens_to_ids(wanted)) <= set(ids):
            raise UserError(
                f"the prompt {text!r} has no room for {self._placeholder} within {tokenizer.model_max_length} tokens; "
                "put {} further to the front."
            )
