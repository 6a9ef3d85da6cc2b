"""Say how diffusers and web UIs use the learned embedding.

docs/embedding-files.md says what each of them expects of the file.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

OPEN = """\
import torch
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained({base}, dtype=torch.float32)
pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
"""
OPEN_LARGE = """\
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

device = "cuda" if torch.cuda.is_available() else "cpu"
dtype = torch.{half} if device == "cuda" else torch.float32
pipeline = DiffusionPipeline.from_pretrained({base}, dtype=dtype).to(device)
"""
LOAD = "pipeline.load_textual_inversion({embedding})\n"
LOAD_XL = """\
vectors = load_file({embedding})
pipeline.load_textual_inversion(vectors["clip_l"], token={token})
second = {{"text_encoder": pipeline.text_encoder_2, "tokenizer": pipeline.tokenizer_2}}
pipeline.load_textual_inversion(vectors["clip_g"], token={token}, **second)
# Without this, CLIP takes the token with the largest id, which is the new one, for the end of the prompt.
pipeline.text_encoder_2.text_model.eos_token_id = pipeline.tokenizer_2.eos_token_id
"""
LOAD_3 = """\
vectors, tokens = load_file({embedding}), {tokens}
for name, part in {parts}:
    tokenizer, encoder = getattr(pipeline, "tokenizer" + part), getattr(pipeline, "text_encoder" + part)
    tokenizer.add_tokens(tokens)
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = encoder.get_input_embeddings().weight.data
    table[tokenizer.convert_tokens_to_ids(tokens)] = vectors[name].to(table)
    if name != "t5xxl":
        # Without this, CLIP takes the token with the largest id, which is the new one, for the end of the prompt.
        encoder.text_model.eos_token_id = tokenizer.eos_token_id
"""
DRAW = """\
noise = torch.Generator("cpu").manual_seed({seed})
image = pipeline({prompt}, num_inference_steps={steps}, guidance_scale={guidance}, generator=noise).images[0]
image.save({image})
"""
PROGRAMS = {
    "sd": OPEN + LOAD + DRAW,
    "sdxl": OPEN_LARGE.replace("{half}", "float16") + LOAD_XL + DRAW,
    "sd3": OPEN_LARGE.replace("{half}", "bfloat16") + LOAD_3 + DRAW,
}
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


def diffusers_example(file: Path, embedding: dict, params: dict[str, dict], image: str) -> str:
    """Return an example for diffusers: a program that renders the last prompt with the embedding `file` to `image`."""
    model, render, placeholder = params["model"], params["render"], params["concept"]["placeholder_token"]
    base = [_quote(model["base"])] + [f"{key}={_quote(model[key])}" for key in ("revision", "variant") if model[key]]
    tokens = [placeholder, *(f"{placeholder}_{i}" for i in range(1, embedding["vectors"]))]
    prompt = list(render["prompts"].values())[-1]
    texts = [_quote(prompt.replace("{}", placeholder))]
    encoders = dict(zip(embedding["widths"], ("", "_2", "_3"), strict=False))
    if embedding["family"] == "sd3":
        texts = [_quote(prompt.replace("{}", " ".join(tokens)))]
        if model["t5"] == "none":
            base += ["text_encoder_3=None", "tokenizer_3=None"]
            encoders.pop("t5xxl", None)
        elif "t5xxl" not in encoders:
            texts.append(f"prompt_3={_quote(prompt.replace('{}', params['concept']['initializer_token']))}")
    return PROGRAMS[embedding["family"]].format(
        base=", ".join(base),
        embedding=_quote(file.as_posix()),
        token=_quote(placeholder),
        tokens=json.dumps(tokens, ensure_ascii=False),
        parts=json.dumps([*encoders.items()]).replace("[[", "[(").replace("], [", "), (").replace("]]", ")]"),
        seed=render["seeds"][0],
        prompt=", ".join(texts),
        steps=_first(render["steps"]),
        guidance=_first(render["guidance_scale"]),
        image=_quote(image),
    )


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) else value
