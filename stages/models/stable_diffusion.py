"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, a VAE and a UNet, with epsilon or velocity prediction.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, D width, c h w latent, H W image.
"""

from functools import partial

import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
from transformers.utils import logging

from stages import UserError
from stages.models.components import load_components
from stages.models.embedding import ExtendedEmbedding, Tables, placeholder_tokens
from stages.models.params import Concept, Model
from stages.models.schedule import NoiseSchedule


class StableDiffusion:
    """The frozen model; `stages.models.backbone.Backbone` documents the methods."""

    def __init__(self, model: Model, concept: Concept, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype, self._concept = device, dtype, concept
        logging.disable_progress_bar()
        disable_progress_bar()
        components = load_components(model, dtype, vae_dtype=torch.float32)
        self._tokenizer, scheduler, self._vae = components.tokenizer, components.scheduler, components.vae
        self.scheduler_config = dict(scheduler.config)
        self.schedule = NoiseSchedule(scheduler.alphas_cumprod.float(), scheduler.config.prediction_type).to(device)
        self.text_encoder = components.text_encoder.to(device)
        self.denoiser: torch.nn.Module = components.unet.to(device, memory_format=torch.channels_last)
        self._initializer_ids = self._check_initializer()
        self._tokens = placeholder_tokens(concept.placeholder_token, concept.vectors)
        self._check_placeholder()
        self._tokenizer.add_tokens(self._tokens)
        self._embedding = ExtendedEmbedding(self.text_encoder.get_input_embeddings(), concept.vectors).to(device)
        self.text_encoder.set_input_embeddings(self._embedding)
        self.tables = Tables({"clip": self._embedding.new.shape[1]})
        names = {module: name for name, module in self.text_encoder.named_modules()}
        self._new_rows = f"{names[self._embedding]}.new"

    def _check_initializer(self) -> list[int]:
        token, ids = self._concept.initializer_token, self._ids(self._concept.initializer_token)
        if not ids:
            raise UserError(
                "`concept.initializer_token` is empty; set it to a known token near the concept, such as dragon."
            )
        if self._concept.initialization == "word" and len(ids) > 1:
            pieces = " + ".join(self._tokenizer.convert_ids_to_tokens(ids))
            raise UserError(
                f"`concept.initializer_token` {token!r} is {len(ids)} tokens for this model ({pieces}); choose a "
                "shorter word, or set `concept.initialization: phrase` to start from their mean."
            )
        return ids

    def _check_placeholder(self) -> None:
        vocabulary = self._tokenizer.get_vocab()
        if len(self._ids(self._tokens[0])) == 1 or any(token in vocabulary for token in self._tokens):
            raise UserError(
                f"`concept.placeholder_token` {self._tokens[0]} is already a token of this model; choose another."
            )

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    @property
    def architecture(self) -> str:
        if self.tables.widths["clip"] < 1024:
            return "stable-diffusion-v1"
        return f"stable-diffusion-v2-{'768-v' if self.schedule.prediction_type == 'v_prediction' else '512'}"

    def token_embeddings(self) -> torch.Tensor:
        return self._embedding.weight.detach().float().cpu()

    def words(self) -> list[str]:
        tokens = self._tokenizer.convert_ids_to_tokens(range(min(self._embedding.first, len(self._tokenizer))))
        special = {*self._tokenizer.all_special_tokens, *self._tokens}
        words = [token.removesuffix("</w>") if token.endswith("</w>") else "" for token in tokens]
        words = [
            word if word.isalpha() and token not in special else "" for word, token in zip(words, tokens, strict=True)
        ]
        return words + [""] * (self._embedding.first - len(words))

    def initializer_vectors(self) -> torch.Tensor:
        return self.token_embeddings()[self._initializer_ids].mean(0).expand(self._concept.vectors, -1).clone()

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        expanded = [caption.replace(self._tokens[0], " ".join(self._tokens)) for caption in captions]
        ids = self._tokenizer(
            expanded,
            padding="max_length",
            truncation=True,
            max_length=self._tokenizer.model_max_length,
            return_tensors="np",
        ).input_ids
        new_ids = self._tokenizer.convert_tokens_to_ids(self._tokens)
        for caption, row in zip(captions, ids, strict=True):
            if not np.isin(new_ids, row).all():
                raise UserError(
                    f"the caption {caption!r} has no {self._tokens[0]} within its first {ids.shape[1]} tokens; add the "
                    "token, move it to the front, or shorten the caption."
                )
        ids = torch.from_numpy(ids)
        # A table may have more rows than its tokenizer has tokens; the new rows follow the table.
        for row, new_id in enumerate(new_ids):
            ids = torch.where(ids == new_id, self._embedding.first + row, ids)
        return ids

    def empty_prompt(self) -> torch.Tensor:
        ids = self._tokenizer("", padding="max_length", max_length=self._tokenizer.model_max_length).input_ids
        return torch.tensor([ids])

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            return self._latents(images)
        except torch.OutOfMemoryError:
            self.denoiser.cpu()
        # Outside the handler, because its traceback keeps the tensors alive.
        torch.cuda.empty_cache()
        try:
            return self._latents(images)
        except torch.OutOfMemoryError:
            raise UserError(
                f"an image of {images.shape[-1]} x {images.shape[-2]} pixels cannot be encoded in this memory; "
                "lower `curate.resolution` or raise `runtime.memory_gib`."
            ) from None
        finally:
            self.denoiser.to(self.device)

    def _latents(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._vae.to(self.device)
        latents = [self._vae.encode(image[None].to(self.device)).latent_dist for image in images]
        factor = self._vae.config.scaling_factor
        mean, std = (torch.cat([getattr(d, name) for d in latents]) * factor for name in ("mean", "std"))
        return mean.cpu(), std.cpu()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        latents = latents.float() / self._vae.config.scaling_factor
        try:
            pixels = self._vae.to(self.device).decode(latents).sample.cpu()
        except torch.OutOfMemoryError:
            pixels = None  # the training step has taken the memory; decode on the CPU, outside the handler
        self.release_vae(for_good=False)
        return self._vae.decode(latents.cpu()).sample if pixels is None else pixels

    def release_vae(self, *, for_good: bool) -> None:
        self._vae = None if for_good else self._vae.cpu()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def encode_prompt(self, ids: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return functional_call(
            self.text_encoder, {self._new_rows: vectors}, kwargs={"input_ids": ids}
        ).last_hidden_state

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        noisy = noisy.to(self.dtype, memory_format=torch.channels_last)
        # Without gradients, a compiled module would be compiled again: `forward` is the plain function.
        denoiser = self.denoiser if torch.is_grad_enabled() else self.denoiser.forward
        return denoiser(noisy, timesteps, prompt_embeds, return_dict=False)[0].float()

    def enable_gradient_checkpointing(self) -> None:
        # The denoiser draws no random numbers, and the state of a random generator cannot be read during a capture.
        self.denoiser.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, preserve_rng_state=False))
        self.denoiser.train()
