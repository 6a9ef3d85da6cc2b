"""The file of the learned embedding: its vectors in each table of token embeddings, and what they are in the header."""

import hashlib
import json

import torch

from stages.models.embedding import Tables

# Readers of Stable Diffusion 3's files look for T5's vectors under different names; both have the same numbers.
TWINS = {"t5xxl": "t5"}


def tensors(tables: Tables, vectors: torch.Tensor, placeholder: str) -> dict[str, torch.Tensor]:
    """Return `vectors` (V D) as the tensors of a file: one named by the placeholder token, or one for each table."""
    parts = tables.split(vectors)
    if len(parts) == 1:
        return {placeholder: vectors}
    return parts | {twin: parts[name] for name, twin in TWINS.items() if name in parts}


def model_spec(architecture: str, title: str) -> dict[str, str]:
    """Return metadata by which programs sort models (https://github.com/Stability-AI/ModelSpec), without a date."""
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{architecture}/textual-inversion",
        "modelspec.implementation": "https://github.com/huggingface/diffusers",
        "modelspec.title": title,
    }


def dump(tensors: dict[str, torch.Tensor], metadata: dict[str, object]) -> bytes:
    """Return tensors (V D) as safetensors bytes that diffusers and web UIs load, with a hash of their numbers.

    The library writes the metadata in an order that changes from run to run, so the format is written here: the length
    of the header (8 bytes, little-endian), the header (JSON, padded with spaces to a multiple of 8), the numbers.
    """
    header, data = {}, b""
    for name, tensor in tensors.items():
        numbers = tensor.contiguous().float().numpy().astype("<f4").tobytes()
        offsets = [len(data), len(data) + len(numbers)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        data += numbers
    metadata = metadata | {"modelspec.hash_sha256": f"0x{hashlib.sha256(data).hexdigest()}"}
    text = {key: str(value) for key, value in sorted(metadata.items()) if value is not None}
    encoded = json.dumps({"__metadata__": text} | header).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + data
