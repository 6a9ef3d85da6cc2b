"""Python programs that load the learned embedding into diffusers' pipelines and render a prompt."""

import json
from pathlib import Path

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
