"""Describe how to use the learned embedding in diffusers and in the usual web UIs."""

import json
import re
from pathlib import Path
from typing import NamedTuple

UIS = [
    ("AUTOMATIC1111, Forge", "Save the file as", "stable-diffusion-webui/embeddings/{}.safetensors", "{}"),
    ("ComfyUI", "Save the file as", "ComfyUI/models/embeddings/{}.safetensors", "embedding:{}"),
    ("InvokeAI", "In the Model Manager: Add Models, Local Path, and the path of", "{}.safetensors", "<{}>"),
]
WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x"}  # of the text encoder
EXAMPLE = """\
import torch
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained({base}, dtype=torch.float32)
pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
pipeline.load_textual_inversion({embedding})
noise = torch.Generator("cpu").manual_seed({seed})
image = pipeline({prompt}, num_inference_steps={steps}, guidance_scale={guidance}, generator=noise).images[0]
image.save({image})
"""


class WebUi(NamedTuple):
    """A web UI: where the file goes, and how a prompt names it."""

    name: str
    step: str
    file: str
    prompt: str


def file_stem(placeholder: str) -> str:
    """Return a file name for the embedding of a placeholder token, which the web UIs use as its name."""
    return re.sub(r"[^\w-]+", "-", placeholder).strip("-_") or "embedding"


def diffusers_example(embedding: Path, params: dict[str, dict]) -> str:
    """Return a Python program that renders the last prompt, in single precision, which the embedding has."""
    model, render, placeholder = params["model"], params["render"], params["concept"]["placeholder_token"]
    base = json.dumps(model["base"]) + (f", revision={json.dumps(model['revision'])}" if model["revision"] else "")
    base += f", variant={json.dumps(model['variant'])}" if model["variant"] else ""
    return EXAMPLE.format(
        base=base,
        embedding=json.dumps(embedding.as_posix()),
        seed=render["seeds"][0],
        prompt=json.dumps(list(render["prompts"].values())[-1].replace("{}", placeholder), ensure_ascii=False),
        steps=_first(render["steps"]),
        guidance=_first(render["guidance_scale"]),
        image=json.dumps(f"{file_stem(placeholder)}.png"),
    )


def web_uis(prompt: str, placeholder: str) -> list[WebUi]:
    """Return the web UIs with the name that the embedding has there, in a prompt."""
    stem = file_stem(placeholder)
    return [
        WebUi(name, step, file.format(stem), prompt.replace("{}", word.format(stem))) for name, step, file, word in UIS
    ]


def compatibility(width: int, base: str) -> str:
    """Return for which base models the web UIs can use an embedding with vectors of this width."""
    if width in WIDTHS:
        return f"The web UIs can use it with {WIDTHS[width]} and models derived from it."
    return f"A vector has {width} numbers, so it fits {base} only, which the web UIs cannot load."


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) else value
