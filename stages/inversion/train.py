"""From pictures and a frozen model to a finished state: what the entry calls."""

from dataclasses import replace
from typing import Protocol

import torch

from stages import UserError
from stages.inversion.callbacks import Surroundings
from stages.inversion.captions import sentences
from stages.inversion.checkpoint import State
from stages.inversion.dataset import Examples, encode
from stages.inversion.diffusion_loss import Compute, Speed
from stages.inversion.loop import Crew, learn, share, start
from stages.inversion.optimizer import Optimizer
from stages.inversion.params import Train
from stages.inversion.sampler import Sampler
from stages.inversion.validation import fixed_batch
from stages.models import acceleration
from stages.models.backbone import Backbone
from stages.models.params import Concept
from stages.models.preview import preview


class Wishes(Protocol):
    """What a user may wish of speed and memory; `runtime` has it."""

    micro_batch: int | str
    gradient_checkpointing: bool | str
    attention: str
    compile: str
    fused_kernels: str | bool
    deterministic: bool


def hasten(backbone: Backbone, steps: int, wishes: Wishes) -> tuple[Speed, str | None]:
    """A model, the steps of the run, wishes => how batches are computed, and a sentence if wishes cannot be met."""
    denoiser, device = backbone.denoiser, backbone.device
    compiled, fused, both = acceleration.choose_kernels(wishes.compile, wishes.fused_kernels, device, steps)
    attention, without = acceleration.choose_attention(wishes.attention, device, backbone.dtype)
    parts = denoiser, backbone.text_encoder
    unmet = [both, without, acceleration.apply_kernels(*parts, attention, fused=fused, exact=wishes.deterministic)]
    acceleration.compile_denoiser(denoiser, compiled)
    auto = {"auto": None}
    how = Speed(
        micro_batch=auto.get(wishes.micro_batch, wishes.micro_batch),
        gradient_checkpointing=auto.get(wishes.gradient_checkpointing, wishes.gradient_checkpointing),
        graph=device.type == "cuda",
        ahead=int(device.type == "cuda"),
    )
    return how, "; ".join(filter(None, unmet)) or None


def teach(
    backbone: Backbone,
    concept: Concept,
    recipe: Train,
    examples: Examples,
    *,
    how: Speed,
    crew: Crew,
    found: State | None,
    around: Surroundings,
) -> State:
    """A frozen model, pictures, perhaps a state found => the state at the end of training.

    Without held-out pictures the objective looks at the training pictures, with noise of its own.
    """
    if crew.num_processes > recipe.batch_size:
        raise UserError(
            f"{crew.num_processes} processes cannot share a batch of {recipe.batch_size}; launch fewer "
            "(`accelerate launch --num_processes`) or raise `train.batch_size`."
        )
    texts, choices = sentences(concept.property, concept.placeholder_token, recipe.captions, examples.captions)
    templates, spare = sentences(concept.property, concept.placeholder_token, recipe.captions, [None])
    pictures = encode(backbone, examples.train, choices, recipe.flip)
    judged = encode(backbone, examples.holdout, spare * len(examples.holdout), False) if examples.holdout else pictures
    backbone.release_encoder(for_good=not recipe.progress_every)
    ids = backbone.tokenize(texts)
    sampler = Sampler(
        pictures, ids, backbone.schedule, seed=recipe.seed, batch_size=recipe.batch_size, gamma=recipe.min_snr_gamma
    )
    fixed = fixed_batch(
        judged,
        backbone.tokenize(templates) if examples.holdout else ids,
        backbone.schedule.to("cpu"),
        seed=recipe.seed,
        strata=recipe.validation_timesteps,
    )
    mine = share(recipe.batch_size, crew.process_index, crew.num_processes)
    initial = backbone.initial_vectors(recipe.seed)
    if found is not None:
        how = replace(how, micro_batch=found.micro_batch)
    compute = Compute(backbone, how, recipe.batch_size)
    compute.fit(initial, sampler.draw(0, mine), fixed, how.gradient_checkpointing)
    sizes = crew.gather(torch.tensor([compute.micro_batch], device=backbone.device))
    compute.micro_batch = int(sizes.min())
    state = found or start(recipe, initial, compute.micro_batch)
    optimizer = Optimizer(recipe, backbone.typical_norm(), state, backbone.device)
    caption, shape = recipe.progress_prompt.replace("{}", concept.placeholder_token), tuple(pictures.mean.shape[1:])
    return learn(
        recipe,
        state,
        compute,
        sampler,
        fixed,
        optimizer=optimizer,
        known=backbone.initializer_vectors().numpy(),
        sketch=lambda vectors: preview(backbone, caption, vectors, shape, recipe.seed),
        crew=crew,
        around=around,
    )
