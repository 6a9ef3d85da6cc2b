"""What the model families share: text encoders with new rows, a VAE, and a denoiser.

Legend: B batch, L tokens of a prompt, V vectors of the embedding, D width, c h w latent, H W image.
"""

from collections.abc import Callable
from functools import partial

import torch
from diffusers import AutoencoderKL, ModelMixin
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from stages import UserError
from stages.models.embedding import Tables
from stages.models.params import Concept
from stages.models.sharding import is_sharded
from stages.models.text_encoder import TextEncoder, to_ids
from stages.models.vae import LatentCodec
from stages.models.weight_storage import move


class FrozenModel:
    """The part of a family that is the same in all; `stages.models.backbone.Backbone` documents the methods.

    `encoders` are the tokenizers and text encoders that are trained, by the names of their tables. CLIP is the first.
    """

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
        self.device, self.dtype, self._concept = device, dtype, concept
        self._codec, self.denoiser = LatentCodec(vae, device), denoiser
        self._encoders = [TextEncoder(*parts, concept) for parts in encoders.values()]
        self.text_encoders = [encoder.model for encoder in self._encoders]
        self.tables = Tables({name: e.width for name, e in zip(encoders, self._encoders, strict=True)})
        self._check_initializer()

    def to_device(self, prepare: Callable[[torch.nn.Module], None], offload: bool | str) -> None:
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
        return self._encoders[0].words()

    def initializer_vectors(self) -> torch.Tensor:
        means = [encoder.table()[encoder.initializer_ids].mean(0) for encoder in self._encoders]
        return torch.cat(means).expand(self._concept.vectors, -1).clone()

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        return torch.cat([encoder.tokenize(captions) for encoder in self._encoders], dim=1)

    def empty_prompt(self) -> torch.Tensor:
        return torch.cat([to_ids(encoder.tokenizer, [""]) for encoder in self._encoders], dim=1)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._codec.encode(images, [m for m in (self.denoiser, *self.text_encoders) if not is_sharded(m)])

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self._codec.decode(latents)

    def release_vae(self, *, for_good: bool) -> None:
        self._codec.release(for_good=for_good)

    def enable_gradient_checkpointing(self) -> None:
        # No layer draws random numbers, and the state of a random generator cannot be read during a capture.
        recompute = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        self.denoiser.enable_gradient_checkpointing(recompute)
        self.denoiser.train()
        for encoder in self.text_encoders:
            for layer in encoder.modules():
                if isinstance(layer, GradientCheckpointingLayer):  # whose own switch would turn on dropout, too
                    layer.forward = partial(recompute, layer.forward)

    def _denoise(self, *inputs: torch.Tensor, **options: object) -> torch.Tensor:
        """Call the denoiser, and return its prediction (B c h w), float32."""
        # Without gradients, a compiled module would be compiled again: `forward` is the plain function. The hooks of a
        # sharded module gather its weights, so it must be called.
        plain = not torch.is_grad_enabled() and not is_sharded(self.denoiser)
        denoiser = self.denoiser.forward if plain else self.denoiser
        return denoiser(*inputs, return_dict=False, **options)[0].float()

    def _rows(self, ids: torch.Tensor, vectors: torch.Tensor) -> list[tuple[TextEncoder, torch.Tensor, torch.Tensor]]:
        """Return each encoder with its part of the ids (B L) and of the vectors (V D)."""
        lengths = [encoder.tokenizer.model_max_length for encoder in self._encoders]
        parts = ids.split([*lengths, ids.shape[1] - sum(lengths)], dim=1)
        return list(zip(self._encoders, parts, self.tables.split(vectors).values(), strict=False))
