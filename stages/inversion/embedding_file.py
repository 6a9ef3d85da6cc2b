"""The learnt word as a file: one key, the placeholder, and where it came from in the header.

Legend: V vectors of the word, D width.
"""

import json

import numpy as np


def dump(vectors: np.ndarray, placeholder: str, origin: dict[str, object]) -> bytes:
    """vectors (V D), the word, what is known of its making => safetensors bytes that diffusers and web UIs read.

    Written by hand, for the library puts the header's entries in an order that changes from run to run. The format: the
    header's length (8 bytes, little-endian), the header (JSON, filled with spaces to a multiple of 8), the numbers.
    """
    data = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    text = {key: str(value) for key, value in sorted(origin.items()) if value is not None}
    tensor = {"dtype": "F32", "shape": list(vectors.shape), "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": text, placeholder: tensor}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def snapshot_name(step: int) -> str:
    """A step => its file's name, in the order of steps."""
    return f"step-{step:06d}.safetensors"
