"""Load the parts of a base model from a local folder or the Hugging Face hub, from safetensors only."""

import json
import re
from pathlib import Path

import torch

from stages import UserError
from stages.common.pretrained import check_config, check_folder, load_model, loading
from stages.models.params import Model

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
    """Return the name of the pipeline class in the model's index."""
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
