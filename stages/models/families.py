"""The families of base models that can be trained, by the pipeline class in a model's index, and their parts."""

import json

from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from stages import UserError
from stages.models.hub import KEY, index_file
from stages.models.params import Model

PARTS = {
    "StableDiffusionPipeline": {
        "tokenizer": CLIPTokenizer,
        "scheduler": DDPMScheduler,
        "text_encoder": CLIPTextModel,
        "vae": AutoencoderKL,
        "unet": UNet2DConditionModel,
    },
    "StableDiffusionXLPipeline": {
        "tokenizer": CLIPTokenizer,
        "tokenizer_2": CLIPTokenizer,
        "scheduler": DDPMScheduler,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
        "vae": AutoencoderKL,
        "unet": UNet2DConditionModel,
    },
    "StableDiffusion3Pipeline": {
        "tokenizer": CLIPTokenizer,
        "tokenizer_2": CLIPTokenizer,
        "tokenizer_3": T5Tokenizer,
        "scheduler": FlowMatchEulerDiscreteScheduler,
        "text_encoder": CLIPTextModelWithProjection,
        "text_encoder_2": CLIPTextModelWithProjection,
        "text_encoder_3": T5EncoderModel,
        "vae": AutoencoderKL,
        "transformer": SD3Transformer2DModel,
    },
}
T5 = ("tokenizer_3", "text_encoder_3")


def family(model: Model) -> str:
    """Return the family of a base model: the name of the pipeline class in its index."""
    return read_index(model)["_class_name"]


def read_index(model: Model, key: str = KEY) -> dict:
    """Read a base model's index: its family, as the name of a pipeline class, and the class of every part."""
    file = index_file(model, key)
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(index["_class_name"], str):
            raise ValueError
        return index
    except FileNotFoundError:
        raise UserError(f"{file} is missing; `{key}` must be a folder in diffusers' layout.") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file} is not the index of a diffusers model; get the folder again.") from None


def known_family(model: Model) -> str:
    """Return the family of a base model. Raises UserError if it is none that can be trained."""
    if (name := family(model)) not in PARTS:
        raise UserError(f"{model.base} is a {name}; this pipeline trains {', '.join(PARTS)}: change `model.base`.")
    return name
