"""Say how web UIs use the learned embedding; docs/embedding-files.md says what each of them expects of the file."""

import re
from typing import NamedTuple

A1111 = ("AUTOMATIC1111, Forge", "Save the file as", "stable-diffusion-webui/embeddings/{}.safetensors", "{}")
COMFYUI = ("ComfyUI", "Save the file as", "ComfyUI/models/embeddings/{}.safetensors", "embedding:{}")
INVOKEAI = ("InvokeAI", "In the Model Manager: Add Models, Local Path, and the path of", "{}.safetensors", "<{}>")
RENAMED = (
    "InvokeAI",
    "Rename the tensor (docs/embedding-files.md), then in the Model Manager: Add Models, Local Path,",
)
UIS = {
    "sd": [A1111, COMFYUI, (*RENAMED, *INVOKEAI[2:])],
    "sdxl": [A1111, COMFYUI, INVOKEAI],
    "sd3": [COMFYUI],
}
WIDTHS = {  # of the text encoders that have vectors
    "sd": {(768,): "Stable Diffusion 1.x", (1024,): "Stable Diffusion 2.x"},
    "sdxl": {(768, 1280): "Stable Diffusion XL"},
    "sd3": {(768, 1280): "Stable Diffusion 3 and 3.5", (768, 1280, 4096): "Stable Diffusion 3 and 3.5"},
}


class WebUi(NamedTuple):
    """A web UI: where the file goes, and how a prompt names it."""

    name: str
    step: str
    file: str
    prompt: str


def file_stem(placeholder: str) -> str:
    """Return the file name by which web UIs use the embedding of a placeholder token."""
    return re.sub(r"[^\w-]+", "-", placeholder).strip("-_") or "embedding"


def web_uis(embedding: dict, prompt: str, placeholder: str) -> list[WebUi]:
    """Return the web UIs that read an embedding, with the name that it has there, in a prompt."""
    stem = file_stem(placeholder)
    return [
        WebUi(name, step, file.format(stem), prompt.replace("{}", word.format(stem)))
        for name, step, file, word in UIS[embedding["family"]]
    ]


def compatibility(embedding: dict, base: str) -> str:
    """Return for which base models the web UIs can use an embedding."""
    widths, family = tuple(embedding["widths"].values()), embedding["family"]
    if models := WIDTHS[family].get(widths):
        lacks_t5 = family == "sd3" and len(widths) < 3
        t5 = " It has no vectors for T5, for which ComfyUI leaves the name out." if lacks_t5 else ""
        return f"It fits {models} and models derived from it, also in the programs below.{t5}"
    numbers = " + ".join(map(str, widths))
    return f"A vector has {numbers} numbers, so it fits {base} only, which the web UIs cannot load."
