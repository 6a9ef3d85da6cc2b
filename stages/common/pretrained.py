"""Load pretrained models: from safetensors only, without running their code, and complete; or raise a UserError.

Every folder is treated as untrusted: the libraries wait for pipes, allocate what a config asks for, and raise errors of
almost every class.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from stages import UserError

PICKLED = ("*.bin", "*.ckpt", "*.pt")
READ = (".json", ".txt", ".safetensors")
MAX_JSON_BYTES = 64 << 20
MAX_LAYERS, MAX_NUMBER = 1000, 2**24  # in a config; modules are built before they are compared with the weights


def check_folder(source: str, key: str) -> None:
    """Raise UserError if `source`, the value of param `key`, names a local folder that does not exist."""
    folder = Path(source)
    is_local = source.startswith((".", "/", "~")) or source.count("/") != 1 or folder.parts[0] == "starter"
    if is_local and not folder.is_dir():
        raise UserError(f"the folder {source} does not exist; correct `{key}`.")


def load_model(kind: type, source: str, **options: Any) -> Any:
    """Return `kind.from_pretrained(source)` in eval mode; raise ValueError if a weight is missing or not finite.

    The libraries initialize a missing weight at random and only log a warning.
    """
    from transformers import PreTrainedConfig

    where = {name: value for name, value in options.items() if name in ("subfolder", "revision")}
    config, _ = PreTrainedConfig.get_config_dict(source, **where)  # works for diffusers' models, too
    if not config.keys() & {"model_type", "_class_name"}:
        raise ValueError("config.json is missing, or names no model")
    check_config(config)
    model, info = kind.from_pretrained(source, use_safetensors=True, output_loading_info=True, **options)
    if info["missing_keys"]:
        raise ValueError(f"the weight {sorted(info['missing_keys'])[0]} is missing")
    for name, weight in model.named_parameters():
        if weight.is_meta or not all(bound.isfinite() for bound in torch.aminmax(weight.detach())):
            raise ValueError(f"the weight {name} is missing, or contains NaN or Inf")
    if not any(weight.any() for weight in model.parameters()):
        raise ValueError("all weights are zero")
    return model.eval()


def check_config(value: object, key: str = "the config", largest: float = MAX_NUMBER) -> None:
    """Raise ValueError for a config with impossible numbers, or one that needs other libraries or kernels."""
    if isinstance(value, dict):
        for name, item in value.items():
            is_attention = "attn_implementation" in name and item not in (None, "eager", "sdpa")
            if (name == "quantization_config" and item) or is_attention:
                raise ValueError(f"{name} is not supported")
            check_config(item, name, largest)
    elif isinstance(value, list):
        for item in value:
            check_config(item, key, largest)
    elif isinstance(value, int | float) and not abs(value) <= (MAX_LAYERS if "layers" in key else largest):
        raise ValueError(f"{key} is {value:.3g}")


def check_vocabulary(tokenizer: Any, table: torch.nn.Embedding) -> None:
    """Raise ValueError if a pretrained tokenizer knows no letters, or has tokens beyond the rows of a `table`."""
    tokenizer.encode("\u2603")  # raises an error if symbols without a token are not allowed for
    ids = tokenizer.encode("a photo of a cat", add_special_tokens=False)
    if not ids or tokenizer.unk_token_id in ids:
        raise ValueError("the tokenizer has no vocabulary")
    if max(tokenizer.get_vocab().values()) >= table.num_embeddings:
        raise ValueError(f"the tokenizer has tokens beyond the {table.num_embeddings} rows of the text encoder")


@contextlib.contextmanager
def loading(source: str, key: str, part: str = "") -> Iterator[None]:
    """Turn the exceptions of a library that loads `part` of `source` into a UserError that names the param `key`."""
    folder = Path(source) / part
    try:
        _check_files(folder)
        yield
    except UserError:
        raise
    except Exception as error:
        pickled = [file for pattern in PICKLED for file in folder.glob(pattern)]
        if pickled and not [*folder.glob("*.safetensors")]:
            message = f"{pickled[0]} is a pickle file, which can run any code; get the model's safetensors files."
        else:
            name, cause = f"the {part} of {source}" if part else source, " ".join(str(error).split())[:300]
            message = f"{name} cannot be loaded ({cause or type(error).__name__}); correct `{key}` or get it again."
        raise UserError(message) from None


def _check_files(folder: Path) -> None:
    """Raise ValueError if a pretrained model's folder lacks shards, or has a pipe or the like instead of a file."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix in READ and not path.is_file():
            raise ValueError(f"{path.name} is no file")
        if path.suffix == ".json" and path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"{path.name} has more than {MAX_JSON_BYTES >> 20} MiB")
        if path.name.endswith(".index.json"):
            shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
            if lost := sorted(set(shards) - {file.name for file in folder.iterdir()}):
                raise ValueError(f"{lost[0]} of {path.name} is missing")
