"""Load pretrained models: from safetensors only, with every weight read, or raise a UserError that names the param."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from stages import UserError

PICKLED = ("*.bin", "*.ckpt", "*.pt")


def check_folder(source: str, key: str) -> None:
    """Raise UserError if `source`, the value of param `key`, names a local folder that does not exist."""
    folder = Path(source)
    is_local = source.startswith((".", "/", "~")) or source.count("/") != 1 or folder.parts[0] == "starter"
    if is_local and not folder.is_dir():
        raise UserError(f"the folder {source} does not exist; correct `{key}`.")


def load_model(kind: type, source: str, **options: object) -> Any:
    """Return `kind.from_pretrained(source)` in eval mode. Raises ValueError if a weight is missing.

    The libraries initialize a missing weight at random and only log a warning.
    """
    model, info = kind.from_pretrained(source, use_safetensors=True, output_loading_info=True, **options)
    if info["missing_keys"]:
        raise ValueError(f"the weight {sorted(info['missing_keys'])[0]} is missing")
    return model.eval()


@contextlib.contextmanager
def loading(source: str, key: str, part: str = "") -> Iterator[None]:
    """Turn the exceptions of a library that loads `part` of `source` into a UserError that names the param `key`."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        folder = Path(source) / part
        pickled = [file for pattern in PICKLED for file in folder.glob(pattern)]
        if pickled and not [*folder.glob("*.safetensors")]:
            message = f"{pickled[0]} is a pickle file, which can run any code; get the model's safetensors files."
        else:
            name = f"the {part} of {source}" if part else source
            message = (
                f"{name} cannot be loaded ({' '.join(str(error).split())[:300]}); correct `{key}` or get it again."
            )
        raise UserError(message) from None
