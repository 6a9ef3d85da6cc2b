"""Load the parts of a base model from a local folder or the Hugging Face hub, from safetensors only."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from stages import UserError
from stages.common.pretrained import check_config, check_folder, load_model, loading
from stages.models.checks import check_scheduler, check_shapes, check_tokenizer
from stages.models.params import Model
from stages.models.weight_storage import store_in_fp8

MAX_TIMESTEPS = 10**5
KEY = "model.base"  # the param with the model's name
COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve(model: Model, key: str = KEY) -> Model:
    """Return `model` with the commit on the hub that its revision names now; a local folder is returned unchanged.

    What is loaded, fingerprinted and recorded afterwards is this commit, even if the branch moves meanwhile.
    Raises UserError, which names the param `key`.
    """
    # huggingface_hub stores the files of a commit in snapshots/<commit>/.
    commit = index_file(model, key).parent.name
    if Path(model.base).is_dir() or not COMMIT.fullmatch(commit):
        return model
    return model.model_copy(update={"revision": commit})


def family(model: Model) -> str:
    """Return the name of the pipeline class in the index of a model to load."""
    return read_index(model)["_class_name"]


def read_index(model: Model, key: str = KEY) -> dict:
    """Return the model's index: the name of its pipeline class, and the class of every part."""
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


def load_part(kind: type, model: Model, part: str, dtype: torch.dtype | None = None, key: str = KEY) -> object:
    """Return a part of the model, such as its `vae`. A part with weights has a `dtype`; it is frozen and complete."""
    with loading(model.base, key, part):
        options = {"subfolder": part, "revision": model.revision}
        if dtype is None:
            return kind.from_pretrained(model.base, **options)
        return load_model(kind, model.base, variant=model.variant, dtype=dtype, **options).requires_grad_(False)


def load_config(kind: type, model: Model, part: str, key: str = KEY) -> dict:
    """Return a part's configuration as it is written in its file, the name of its class included."""
    with loading(model.base, key, part):
        config = kind.load_config(model.base, subfolder=part, revision=model.revision)
        if not isinstance(config, dict):  # from_config takes a text for the name of a model
            raise ValueError("its config is no mapping")
        check_config(config, largest=MAX_TIMESTEPS)
        return config


def index_file(model: Model, key: str) -> Path:
    """Return the path of model_index.json, downloaded if the model is on the hub."""
    check_folder(model.base, key)
    if Path(model.base).is_dir():
        return Path(model.base) / "model_index.json"
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model.base, "model_index.json", revision=model.revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{model.base} cannot be downloaded from the Hugging Face hub ({type(error).__name__}); check `{key}` "
            "and its revision, the network, and `hf auth login` if the model is gated."
        ) from None


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


def known_family(model: Model) -> str:
    """Return the name of the model's pipeline class. Raises UserError if it is none that can be trained."""
    if (name := family(model)) not in PARTS:
        raise UserError(f"{model.base} is a {name}; this pipeline trains {', '.join(PARTS)}: change `model.base`.")
    return name


def load_components(model: Model, dtype: torch.dtype, vae_dtype: torch.dtype) -> SimpleNamespace:
    """Return the parts of a base model under the names that diffusers' pipeline class gives them.

    The models are frozen and on the CPU. With `model.t5: none` T5 and its tokenizer are None. Raises UserError for a
    model of another family, and for a part that cannot be loaded or does not fit the others.
    """
    parts = {}
    for part, kind in PARTS[known_family(model)].items():
        if part in T5 and model.t5 == "none":
            parts[part] = None
        elif part == "scheduler":
            parts[part] = _load_scheduler(kind, model)
        elif part.startswith("tokenizer"):
            parts[part] = load_part(kind, model, part)
        else:
            parts[part] = load_part(kind, model, part, vae_dtype if part == "vae" else dtype)
    components = SimpleNamespace(**parts)
    for part in [part for part in parts if part.startswith("tokenizer") and parts[part]]:
        with loading(model.base, "model.base", part):
            check_tokenizer(components, part)
    with loading(model.base, "model.base"), torch.no_grad():
        check_shapes(components)
    if model.storage_dtype == "fp8":
        for part in ("unet", "transformer", "text_encoder_3"):
            if getattr(components, part, None):
                store_in_fp8(getattr(components, part))
    return components


def _load_scheduler(kind: type, model: Model) -> DDPMScheduler | FlowMatchEulerDiscreteScheduler:
    config = load_config(kind, model, "scheduler")
    with loading(model.base, "model.base", "scheduler"):
        scheduler = kind.from_config(config)
        check_scheduler(scheduler, str(config.get("_class_name")))
    return scheduler
