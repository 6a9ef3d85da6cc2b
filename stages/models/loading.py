"""A base model's files: which family they are, and each part from safetensors or not at all."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import CLIPTextModel

from stages import UserError
from stages.models.params import Model


def family(model: Model) -> str:
    """`model` => the pipeline class that its index names."""
    folder = Path(model.base)
    if folder.is_dir():
        index = folder / "model_index.json"
    elif model.base.startswith((".", "/", "~")) or model.base.count("/") != 1 or folder.parts[0] == "starter":
        raise UserError(f"the folder {model.base} is not here; mend `model.base`.")
    else:
        index = _from_hub(model)
    try:
        return json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except FileNotFoundError:
        raise UserError(f"{index} is missing; `model.base` must be a folder in diffusers' layout.") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{index} is not an index of a diffusers model; get the folder again.") from None


def _from_hub(model: Model) -> Path:
    """A repository id => the local copy of its index."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model.base, "model_index.json", revision=model.revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{model.base} cannot be had from the Hugging Face hub ({type(error).__name__}); check `model.base` and "
            "`model.revision`, the network, and `hf auth login` if the model asks for consent."
        ) from None


def load_part(kind: type, model: Model, part: str, dtype: torch.dtype | None = None) -> object:
    """A part's class and folder => the part, from safetensors or not at all, every weight of it read."""
    with _one_sentence(model, part):
        if dtype is None:
            return kind.from_pretrained(model.base, subfolder=part, revision=model.revision)
        loaded, found = kind.from_pretrained(
            model.base,
            subfolder=part,
            revision=model.revision,
            variant=model.variant,
            use_safetensors=True,
            output_loading_info=True,
            **{"dtype" if kind is CLIPTextModel else "torch_dtype": dtype},
        )
        # The libraries would fill in random weights with no more than a warning.
        if found["missing_keys"]:
            raise ValueError(f"it has no {sorted(found['missing_keys'])[0]}")
        return loaded


def load_settings(kind: type, model: Model, part: str) -> dict:
    """A part's class and folder => its settings as they are written there, its own class's name among them."""
    with _one_sentence(model, part):
        return kind.load_config(model.base, subfolder=part, revision=model.revision)


@contextlib.contextmanager
def _one_sentence(model: Model, part: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(_complaint(model, part, error)) from None


def _complaint(model: Model, part: str, error: Exception) -> str:
    folder = Path(model.base) / part
    pickled = [*folder.glob("*.bin"), *folder.glob("*.ckpt"), *folder.glob("*.pt")]
    if pickled and not [*folder.glob("*.safetensors")]:
        return f"{pickled[0]} is a pickle, which can run any code; get the model's safetensors files."
    said = " ".join(str(error).split())[:300]
    return f"the {part} of {model.base} cannot be read ({said}); get the model again or mend `model`."
