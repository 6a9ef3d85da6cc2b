"""The file of the learned embedding: one tensor named by the placeholder token, and provenance in the header."""

import json

import torch


def dump(vectors: torch.Tensor, placeholder: str, metadata: dict[str, object]) -> bytes:
    """Return `vectors` (V D) as safetensors bytes that diffusers and web UIs load.

    The library writes the metadata in an order that changes from run to run, so the format is written here: the length
    of the header (8 bytes, little-endian), the header (JSON, padded with spaces to a multiple of 8), the numbers.
    """
    data = vectors.contiguous().float().numpy().astype("<f4").tobytes()
    text = {key: str(value) for key, value in sorted(metadata.items()) if value is not None}
    tensor = {"dtype": "F32", "shape": list(vectors.shape), "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": text, placeholder: tensor}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data
