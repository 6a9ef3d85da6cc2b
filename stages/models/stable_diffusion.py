"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, a VAE, a UNet; epsilon or velocity prediction.

Legend: B batch, L tokens of a caption, V vectors of the word, D width, c h w latent, H W picture.
"""

from functools import partial

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.utils.logging import disable_progress_bar
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging

from stages import UserError
from stages.models.embedding import ExtendedEmbedding, placeholder_tokens
from stages.models.loading import load_part
from stages.models.noise import normal
from stages.models.params import Concept, Model
from stages.models.schedule import Schedule


class StableDiffusion:
    """The frozen model; see `stages.models.backbone.Backbone` for what each method promises."""

    def __init__(self, model: Model, concept: Concept, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype, self._concept = device, dtype, concept
        logging.disable_progress_bar()
        disable_progress_bar()
        self._tokenizer = load_part(CLIPTokenizer, model, "tokenizer")
        scheduler = load_part(DDPMScheduler, model, "scheduler")
        self.schedule = Schedule(scheduler.alphas_cumprod.float(), scheduler.config.prediction_type).to(device)
        self.text_encoder = _frozen(load_part(CLIPTextModel, model, "text_encoder", dtype)).to(device)
        self._vae = _frozen(load_part(AutoencoderKL, model, "vae", torch.float32))
        self.denoiser = _frozen(load_part(UNet2DConditionModel, model, "unet", dtype)).to(
            device, memory_format=torch.channels_last
        )
        self._initial_ids = self._check_initializer()
        self._words = self._add_placeholder()

    def _check_initializer(self) -> list[int]:
        word, ids = self._concept.initializer_token, self._ids(self._concept.initializer_token)
        if not ids:
            raise UserError("`concept.initializer_token` is empty; name a known word near the new one, such as dragon.")
        if self._concept.initialization == "word" and len(ids) > 1:
            pieces = " + ".join(self._tokenizer.convert_ids_to_tokens(ids))
            raise UserError(
                f"`concept.initializer_token` {word!r} is {len(ids)} tokens to this model ({pieces}); choose a shorter "
                "word, or set `concept.initialization: phrase` to start from their mean."
            )
        return ids

    def _add_placeholder(self) -> ExtendedEmbedding:
        tokens = placeholder_tokens(self._concept.placeholder_token, self._concept.vectors)
        table = self.text_encoder.get_input_embeddings()
        known = self._tokenizer.get_vocab()
        if len(self._ids(tokens[0])) == 1 or any(token in known for token in tokens):
            raise UserError(
                f"`concept.placeholder_token` {tokens[0]} is a word that this model knows already; choose another."
            )
        self._tokenizer.add_tokens(tokens)
        self._places = self._tokenizer.convert_tokens_to_ids(tokens)
        words = ExtendedEmbedding(table, table.num_embeddings, len(tokens)).to(self.device)
        self.text_encoder.set_input_embeddings(words)
        return words

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def initializer_vectors(self) -> torch.Tensor:
        table = self._words.table.weight.detach().float().cpu()
        return table[self._initial_ids].mean(0).expand(self._concept.vectors, -1).clone()

    def initial_vectors(self, seed: int) -> torch.Tensor:
        if self._concept.initialization != "random":
            return self.initializer_vectors()
        table = self._words.table.weight.detach().float().cpu()
        drawn = torch.from_numpy(normal(seed, "initial", 0, 0, (self._concept.vectors, table.shape[1])))
        return table.mean(0) + table.std(0) * drawn

    def typical_norm(self) -> float:
        return self._words.table.weight.detach().float().norm(dim=1).mean().item()

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        """Raises UserError for a caption that has no place for the whole word."""
        tokens = placeholder_tokens(self._concept.placeholder_token, self._concept.vectors)
        expanded = [caption.replace(tokens[0], " ".join(tokens)) for caption in captions]
        ids = self._tokenizer(
            expanded,
            padding="max_length",
            truncation=True,
            max_length=self._tokenizer.model_max_length,
            return_tensors="np",
        ).input_ids
        for caption, row in zip(captions, ids, strict=True):
            if not np.isin(self._places, row).all():
                raise UserError(
                    f"the caption {caption!r} has no room for {tokens[0]} within {ids.shape[1]} tokens; put the word "
                    "in, further to the front, or shorten the caption."
                )
        ids = torch.from_numpy(ids)
        # A model's table may have more rows than its tokenizer has words: the new rows stand behind the table.
        for i, place in enumerate(self._places):
            ids = torch.where(ids == place, self._words.first + i, ids)
        return ids

    def blank(self) -> torch.Tensor:
        ids = self._tokenizer("", padding="max_length", max_length=self._tokenizer.model_max_length).input_ids
        return torch.tensor([ids])

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            return self._latents(pictures)
        except torch.OutOfMemoryError:
            self.denoiser.cpu()
        # Outside of the handler: its traceback would keep the tensors that have to go.
        torch.cuda.empty_cache()
        try:
            return self._latents(pictures)
        except torch.OutOfMemoryError:
            raise UserError(
                f"a picture of {pictures.shape[-1]} x {pictures.shape[-2]} pixels cannot be encoded in this memory; "
                "lower `curate.resolution` or raise `runtime.memory_gib`."
            ) from None
        finally:
            self.denoiser.to(self.device)

    def _latents(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._vae.to(self.device)
        latents = [self._vae.encode(picture[None].to(self.device)).latent_dist for picture in pictures]
        factor = self._vae.config.scaling_factor
        mean, std = (torch.cat([getattr(d, name) for d in latents]) * factor for name in ("mean", "std"))
        return mean.cpu(), std.cpu()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        latents = latents.float() / self._vae.config.scaling_factor
        try:
            pixels = self._vae.to(self.device).decode(latents).sample.cpu()
        except torch.OutOfMemoryError:
            # The training step has taken the memory, and this is only a picture now and then.
            pixels = None
        self.release_encoder(for_good=False)
        return self._vae.decode(latents.cpu()).sample if pixels is None else pixels

    def release_encoder(self, *, for_good: bool) -> None:
        self._vae = None if for_good else self._vae.cpu()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def context(self, ids: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        self._words.new = vectors
        return self.text_encoder(input_ids=ids).last_hidden_state

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        noisy = noisy.to(self.dtype, memory_format=torch.channels_last)
        # Where nothing is learnt, what was compiled for learning would be compiled once more: it takes the plain way.
        denoise = self.denoiser if torch.is_grad_enabled() else self.denoiser.forward
        return denoise(noisy, timesteps, context, return_dict=False)[0].float()

    def checkpoint_gradients(self) -> None:
        # Nothing in the denoiser is drawn at random, and the state of a random generator cannot be read in a capture.
        self.denoiser.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, preserve_rng_state=False))
        self.denoiser.train()


def _frozen(module: torch.nn.Module) -> torch.nn.Module:
    return module.requires_grad_(False).eval()
