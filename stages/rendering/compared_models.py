"""Render plain prompts with other text-to-image models, by the pipelines that diffusers has for them."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from stages import UserError
from stages.common.pretrained import loading
from stages.common.runtime import Runtime
from stages.models.families import read_index
from stages.models.hub import index_file, resolve
from stages.models.loading import load_config, load_part
from stages.models.params import Model
from stages.rendering.jobs import ComparedInputs, Job
from stages.rendering.metadata import parameters
from stages.rendering.params import Render
from stages.rendering.pipeline import DTYPES
from stages.rendering.sampling import initial_noise, step_noise

KEY = "render.compare"
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")  # parts that no image from text needs
# Their latents have the shape of the noise (c h w); the pipelines of other models arrange theirs as they need them.
WITH_PLAIN_LATENTS = ("UNet2DConditionModel", "SD3Transformer2DModel")


def compared_inputs(render: Render, class_name: str, device: torch.device) -> tuple[ComparedInputs, ...]:
    """Return the inputs of the models in `render.compare`, with their commits and the precision on this device.

    With `auto` that is bf16 on a GPU, because many of these models exceed the range of fp16.
    """
    auto = "bf16" if device.type == "cuda" else "fp32"
    precision = auto if render.precision == "auto" else render.precision
    # Params without an effect on these models.
    render = render.model_copy(update={"precision": precision, "scheduler": None, "long_prompts": "cut"})
    return tuple(
        ComparedInputs(resolve(Model(base=c.model, revision=c.revision, variant=c.variant), KEY), render, c, class_name)
        for c in render.compare
    )


class PipelineSampler:
    """Samples images from another model, one at a time."""

    def __init__(self, inputs: ComparedInputs, runtime: Runtime, device: torch.device) -> None:
        self._inputs, self._render = inputs, inputs.render
        self._pipeline = open_text_to_image(inputs.model, DTYPES[inputs.render.precision])
        with _rendering(inputs.model):
            if device.type == "cuda" and (runtime.memory_gib is not None or runtime.offload is True):
                self._pipeline.enable_model_cpu_offload(device=device)
            else:
                self._pipeline.to(device)
        self._accepted = inspect.signature(self._pipeline.__call__).parameters
        self._latents = self._latent_shape()

    def _latent_shape(self) -> tuple[int, int, int] | None:
        """Return the shape of a compared model's latents (c h w), or None if only its pipeline knows it."""
        denoiser = getattr(self._pipeline, "unet", None) or getattr(self._pipeline, "transformer", None)
        side = denoiser.config.sample_size if type(denoiser).__name__ in WITH_PLAIN_LATENTS else None
        if not isinstance(side, int):
            return None
        sizes = (self._render.height, self._render.width)
        h, w = (size // self._pipeline.vae_scale_factor if size else side for size in sizes)
        return denoiser.config.in_channels, h, w

    def parameters(self, job: Job, image: Image.Image) -> str:
        """Return the text that is saved with the image of a compared model."""
        return parameters(self._inputs, job, type(self._pipeline.scheduler).__name__, image.size)

    def prepare(self, jobs: list[Job]) -> list[str]:
        """Return a warning for every prompt that is too long for all text encoders of a compared model."""
        tokenizers = [p for p in self._pipeline.components.values() if isinstance(p, PreTrainedTokenizerBase)]
        return [
            f"the prompt {text!r} is too long for {self._inputs.compare.title}; its end is cut off"
            for text in dict.fromkeys(job.text for job in jobs)
            if tokenizers and all(len(t(text, verbose=False).input_ids) > t.model_max_length for t in tokenizers)
        ]

    @torch.no_grad()
    def batches(self, jobs: list[Job]) -> Iterator[list[tuple[Job, Image.Image]]]:
        """Yield the jobs of a compared model with their images, in batches of one."""
        for job in jobs:
            with _rendering(self._inputs.model):
                image = self._sample(job)
            if not image.isfinite().all():
                raise UserError(f"{job.file} contains NaN or Inf; set `render.precision: fp32`.")
            pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
            yield [(job, Image.fromarray(pixels.cpu().numpy()))]

    def _sample(self, job: Job) -> torch.Tensor:
        """Sample an image (3 H W) in [0, 1] from a compared model, float32. The noise depends on the seed alone."""
        options = {
            "negative_prompt": self._render.negative_prompt or None,
            "height": self._render.height,
            "width": self._render.width,
            "num_inference_steps": job.setting.steps,
            "guidance_scale": job.setting.guidance_scale,
            "generator": step_noise(job),
            "output_type": "pt",
        }
        if self._latents:
            options["latents"] = initial_noise(job, self._latents)[None].to(DTYPES[self._render.precision])
        options = {name: value for name, value in options.items() if name in self._accepted}
        return self._pipeline(job.text, **options).images[0].float()


def open_text_to_image(model: Model, dtype: torch.dtype) -> object:
    """Open a model to compare with as diffusers' text-to-image pipeline, on the CPU, from safetensors only.

    The parts are loaded here, so that they are checked like those of the base model and run no code of the model's own.
    Raises UserError for a model that cannot be used.
    """
    # These modules import every pipeline, which takes seconds.
    from diffusers import AutoPipelineForText2Image
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
    index = read_index(model, KEY)
    if index["_class_name"] not in {kind.__name__ for kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}:
        name = index["_class_name"]
        raise UserError(f"{model.base} is a {name}, which is no text-to-image pipeline of diffusers; correct `{KEY}`.")
    parts = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    options = {name: None if name in UNUSED else _load_part(model, name, *parts[name], dtype) for name in parts}
    if "safety_checker" in parts:
        options["requires_safety_checker"] = False
    with _rendering(model):
        # The folder of the index, also for a model on the hub: nothing but the parts above is downloaded.
        folder = index_file(model, KEY).parent
        pipeline = AutoPipelineForText2Image.from_pretrained(folder, use_safetensors=True, **options)
    pipeline.watermark = None  # Stable Diffusion XL draws one if another library is installed
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _load_part(model: Model, name: str, library: str | None, kind: str | None, dtype: torch.dtype) -> object:
    import diffusers
    import transformers

    if library is None:
        return None
    found = getattr({"diffusers": diffusers, "transformers": transformers}.get(library), str(kind), None)
    if not isinstance(found, type) or found.__name__.startswith("AutoModel"):
        raise UserError(f"the {name} of {model.base} is a {library}.{kind}, which cannot be loaded; correct `{KEY}`.")
    if issubclass(found, diffusers.SchedulerMixin):
        with loading(model.base, KEY, name):
            return found.from_config(load_config(found, model, name, KEY))
    return load_part(found, model, name, dtype if issubclass(found, torch.nn.Module) else None, KEY)


@contextmanager
def _rendering(model: Model) -> Iterator[None]:
    """Turn the errors of a compared model, whose parts may not fit each other or the params, into a UserError."""
    try:
        yield
    except torch.OutOfMemoryError:
        advice = "set `runtime.offload: true`, so that it is moved to the GPU in parts, or a smaller `render.height`"
        raise UserError(f"{model.base} does not fit into memory; {advice}.") from None
    except (AttributeError, ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        cause = " ".join(str(error).split())[:300]
        raise UserError(f"{model.base} cannot render ({cause}); correct `{KEY}` or the settings in `render`.") from None
