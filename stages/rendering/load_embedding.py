"""Load an embedding into a pipeline of diffusers: into every text encoder, also of Stable Diffusion 3.

diffusers itself loads the vectors of one text encoder at a time, and has no loader for Stable Diffusion 3.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from stages import UserError
from stages.common.read_outs import read_embedding
from stages.models.embedding import placeholder_tokens

# The numbers of a pipeline's text encoders by the table of token embeddings that an embedding file has for each.
ENCODERS = {"clip": "", "clip_l": "", "clip_g": "_2", "t5xxl": "_3"}


@dataclass(frozen=True)
class LoadedEmbedding:
    """An embedding in a pipeline: its placeholder token and the tokens of its vectors.

    `t5_text` is what T5 reads for the token if the embedding has no vectors for T5: the initializer token.
    """

    placeholder: str
    tokens: tuple[str, ...]
    t5_text: str | None

    def prompts(self, text: str) -> dict[str, str]:
        """Return the prompts with this embedding for StableDiffusion3Pipeline, which expands no placeholder itself."""
        expanded = text.replace(self.placeholder, " ".join(self.tokens))
        return {"prompt": expanded, "prompt_3": expanded if self.t5_text is None else self.for_t5(text)}

    def for_t5(self, text: str) -> str:
        """Return a text as T5 reads it if the loaded embedding has no vectors for T5: with the initializer token."""
        return text if self.t5_text is None else text.replace(self.placeholder, self.t5_text)


def load_embedding(pipeline: DiffusionPipeline, file: Path | str, token: str) -> LoadedEmbedding:
    """Add `token` and the vectors in a learned_embeds.safetensors to all tokenizers and text encoders of a pipeline.

    Raises UserError if the token is known, or if the embedding is of another family of models.
    """
    tables, metadata = read_embedding(Path(file))
    tokens = placeholder_tokens(token, len(next(iter(tables.values()))))
    parts = {
        name: [getattr(pipeline, part + ENCODERS[name], None) for part in ("tokenizer", "text_encoder")]
        for name in tables
    }
    if ("clip" in tables) == hasattr(pipeline, "text_encoder_2"):
        raise _misfit(file, f"it has the tensors {', '.join(tables)}")
    parts = {name: part for name, part in parts.items() if all(part)}  # without T5 if the pipeline has none
    for name, (tokenizer, encoder) in parts.items():
        width, own = tables[name].shape[1], encoder.get_input_embeddings().embedding_dim
        if not tokenizer.get_vocab().keys().isdisjoint(tokens):
            raise UserError(f"`concept.placeholder_token` {token} is a token of this model; choose another.")
        if width != own:
            raise _misfit(file, f"its vectors have {width} numbers, and those of the text encoder {own}")
    for name, (tokenizer, encoder) in parts.items():
        _add(tokenizer, encoder, tokens, torch.from_numpy(tables[name]))
    return LoadedEmbedding(token, tuple(tokens), None if "t5xxl" in tables else metadata.get("initializer", ""))


def _misfit(file: Path | str, reason: str) -> UserError:
    return UserError(f"{file} does not fit this model ({reason}); run `dvc repro train` with this `model.base`.")


def _add(tokenizer: object, encoder: torch.nn.Module, tokens: list[str], vectors: torch.Tensor) -> None:
    tokenizer.add_tokens(tokens)
    table, first = encoder.get_input_embeddings().weight.data, tokenizer.convert_tokens_to_ids(tokens[0])
    # Not by `resize_token_embeddings`, which draws random numbers for the whole table: 2 s for 49,408 rows.
    encoder.set_input_embeddings(torch.nn.Embedding.from_pretrained(torch.cat([table[:first], vectors.to(table)])))
    for module in encoder.modules():
        # The config of many models has another id for the end of the prompt. CLIP then takes the token with the largest
        # id for the end, which would be the new one (https://github.com/huggingface/transformers/issues/24650).
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = tokenizer.eos_token_id
