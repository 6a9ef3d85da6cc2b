"""Find a base model in a local folder or on the Hugging Face hub."""

import re
from pathlib import Path

from stages import UserError
from stages.common.pretrained import check_folder
from stages.models.params import Model

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


def index_file(model: Model, key: str) -> Path:
    """Return the path of a base model's index file, downloaded if the model is on the hub."""
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
