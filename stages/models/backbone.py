"""The frozen text-to-image model that a trainer sees; one subclass for each family of models.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, N tokens of the vocabulary, D width, c h w latent,
H W image.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from diffusers import AutoencoderKL, ModelMixin, SchedulerMixin
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from stages import UserError
from stages.models.embedding import Tables
from stages.models.noise_schedule import Schedule
from stages.models.params import Concept
from stages.models.sharding import is_sharded
from stages.models.text_encoder import TextEncoder, to_ids
from stages.models.vae import LatentCodec
from stages.models.weight_storage import move

Conditioning = tuple[torch.Tensor, ...]  # what the denoiser sees of a prompt; its first dimension is B


class Backbone(ABC):
    """A frozen text-to-image model whose tokenizers and text encoders accept one new token.

    A family sets its noise `schedule`, and `scheduler`, which samples without noise between the steps. `tables` names
    the tables of token embeddings.
    """

    schedule: Schedule
    scheduler: SchedulerMixin

    def __init__(
        self,
        concept: Concept,
        device: torch.device,
        dtype: torch.dtype,
        *,
        vae: AutoencoderKL,
        denoiser: ModelMixin,
        encoders: dict[str, tuple[PreTrainedTokenizerBase, PreTrainedModel]],
    ) -> None:
        """Take the parts of the model; `encoders` are those that are trained, by the names of their tables, CLIP first.

        Raises UserError for an initializer token that this model cannot start from.
        """
        self.device, self.dtype, self._concept = device, dtype, concept
        self._codec, self.denoiser = LatentCodec(vae, device), denoiser
        self._encoders = [TextEncoder(*parts, concept) for parts in encoders.values()]
        self.text_encoders = [encoder.model for encoder in self._encoders]
        self.tables = Tables({name: e.width for name, e in zip(encoders, self._encoders, strict=True)})
        self._check_initializer()

    @property
    @abstractmethod
    def architecture(self) -> str:
        """Return the backbone's name in the metadata of an embedding file."""

    @abstractmethod
    def encode_prompt(self, ids: torch.Tensor, vectors: torch.Tensor) -> Conditioning:
        """Encode the ids of prompts (B L), with `vectors` (V D) as the new token's embedding, for the denoiser."""

    @abstractmethod
    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning, sizes: torch.Tensor
    ) -> torch.Tensor:
        """Return the denoiser's prediction (B c h w), float32, for noisy latents (B c h w) and timesteps (B).

        `sizes` (B 6) are the original height and width, the top and left of the crop, and the height and width of the
        image that the latents encode, in pixels. Stable Diffusion XL is conditioned on them.
        """

    def to_device(self, prepare: Callable[[torch.nn.Module], None], offload: bool | str) -> None:
        """Call `prepare` with the denoiser and every text encoder on the CPU, and move each to the device.

        `offload` is that of `runtime`.
        """
        for module in (self.denoiser, *self.text_encoders):
            prepare(module)
            if not is_sharded(module):
                move(module, self.device, offload)

    def _check_initializer(self) -> None:
        token, first = self._concept.initializer_token, self._encoders[0]
        if not first.initializer_ids:
            raise UserError(
                "`concept.initializer_token` is empty; set it to a known token near the concept, such as dragon."
            )
        if self._concept.initialization == "word" and len(first.initializer_ids) > 1:
            pieces = " + ".join(first.tokenizer.convert_ids_to_tokens(first.initializer_ids))
            raise UserError(
                f"`concept.initializer_token` {token!r} is {len(first.initializer_ids)} tokens for this model "
                f"({pieces}); choose a shorter word, or set `concept.initialization: phrase` to start from their mean."
            )

    def token_embeddings(self) -> torch.Tensor:
        """Return the embeddings of CLIP's tokens in all tables of the model (N D), float32, on the CPU.

        In a table of another vocabulary, that of T5, it is the mean of the tokens of the CLIP token's text.
        """
        first = self._encoders[0]
        return torch.cat(
            [
                encoder.table()
                if isinstance(encoder.tokenizer, CLIPTokenizer)
                else encoder.mean_embeddings(first.texts())
                for encoder in self._encoders
            ],
            dim=1,
        )

    def words(self) -> list[str]:
        """Return the word of each row in the backbone's tables (N); empty for special tokens and parts of words."""
        return self._encoders[0].words()

    def initializer_vectors(self) -> torch.Tensor:
        """Return the initializer token's embedding in all tables of the backbone, V times (V D), float32."""
        means = [encoder.table()[encoder.initializer_ids].mean(0) for encoder in self._encoders]
        return torch.cat(means).expand(self._concept.vectors, -1).clone()

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        """Return ids (B L) of captions with the placeholder token, for all encoders of the backbone side by side.

        Raises UserError if the token is cut off.
        """
        return torch.cat([encoder.tokenize(captions) for encoder in self._encoders], dim=1)

    def empty_prompt(self) -> torch.Tensor:
        """Return the ids (1 L) of an empty prompt, for all encoders of the backbone side by side."""
        return torch.cat([to_ids(encoder.tokenizer, [""]) for encoder in self._encoders], dim=1)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode images (B 3 H W) in [-1, 1] to the backbone's latents: mean and deviation (B c h w), float32.

        If the VAE does not fit into memory beside them, the denoiser and the text encoders leave the device meanwhile.
        """
        return self._codec.encode(images, [m for m in (self.denoiser, *self.text_encoders) if not is_sharded(m)])

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode the backbone's latents (B c h w) to images (B 3 H W), about [-1, 1], float32, on the CPU."""
        return self._codec.decode(latents)

    def release_vae(self, *, for_good: bool) -> None:
        """Move the model's VAE off the device; `for_good` deletes it, so that nothing can be encoded any more."""
        self._codec.release(for_good=for_good)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the activations of the denoiser and the text encoders in the backward pass from now on."""
        # No layer draws random numbers, and the state of a random generator cannot be read during a capture.
        recompute = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        self.denoiser.enable_gradient_checkpointing(recompute)
        self.denoiser.train()
        for encoder in self.text_encoders:
            for layer in encoder.modules():
                if isinstance(layer, GradientCheckpointingLayer):  # whose own switch would turn on dropout, too
                    layer.forward = partial(recompute, layer.forward)

    def _denoise(self, *inputs: torch.Tensor, **options: object) -> torch.Tensor:
        """Call the backbone's denoiser, and return its prediction (B c h w), float32."""
        # Without gradients, a compiled module would be compiled again: `forward` is the plain function. The hooks of a
        # sharded module gather its weights, so it must be called.
        plain = not torch.is_grad_enabled() and not is_sharded(self.denoiser)
        denoiser = self.denoiser.forward if plain else self.denoiser
        return denoiser(*inputs, return_dict=False, **options)[0].float()

    def _rows(self, ids: torch.Tensor, vectors: torch.Tensor) -> list[tuple[TextEncoder, torch.Tensor, torch.Tensor]]:
        """Return the backbone's text encoders, each with its part of the ids (B L) and of the vectors (V D)."""
        lengths = [encoder.tokenizer.model_max_length for encoder in self._encoders]
        parts = ids.split([*lengths, ids.shape[1] - sum(lengths)], dim=1)
        return list(zip(self._encoders, parts, self.tables.split(vectors).values(), strict=False))
