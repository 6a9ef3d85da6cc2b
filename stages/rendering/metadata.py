"""Describe a render as AUTOMATIC1111's web UI does in the chunk `parameters` of a PNG, which other UIs read too."""

import json

from stages.common.hashing import sha256
from stages.rendering.jobs import ComparedInputs, Job, RenderInputs

# The web UI's names of diffusers' schedulers.
SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "FlowMatchEulerDiscreteScheduler": "Euler",
    "LMSDiscreteScheduler": "LMS",
    "PNDMScheduler": "PLMS",
    "UniPCMultistepScheduler": "UniPC",
}


def parameters(inputs: RenderInputs | ComparedInputs, job: Job, scheduler: str, size: tuple[int, int]) -> str:
    """Return prompt, settings, and the first 12 digits of the SHA-256 of the embeddings in the prompt.

    `scheduler` is the name of its class, and `size` the image's width and height.
    """
    render = inputs.render
    hashes = ", ".join(f"{token}: {sha256(file)[:12]}" for token, file in inputs.embeddings_in(job).items())
    settings = {
        "Steps": job.setting.steps,
        "Sampler": SAMPLERS.get(scheduler, scheduler),
        "CFG scale": job.setting.guidance_scale,
        "Seed": job.seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model": " ".join([inputs.model.base, *filter(None, (inputs.model.revision, inputs.model.variant))]),
        "Precision": render.precision,
    }
    if hashes:
        settings["TI hashes"] = hashes
    negative = [f"Negative prompt: {render.negative_prompt}"] if render.negative_prompt else []
    return "\n".join([job.text, *negative, ", ".join(f"{key}: {_quote(value)}" for key, value in settings.items())])


def _quote(value: object) -> str:
    """Return a value in quotation marks if it contains the separators of the format."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',:"\n') else text
