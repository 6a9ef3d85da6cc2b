"""From pictures and a frozen model to a finished state: what the entry calls."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from stages import UserError
from stages.inversion.batches import Sampler
from stages.inversion.captions import sentences
from stages.inversion.checkpoint import State
from stages.inversion.compute import Compute, Speed
from stages.inversion.loop import Crew, Surroundings, learn, share, start
from stages.inversion.objective import fixed_batch
from stages.inversion.optimizer import Optimizer
from stages.inversion.params import Train
from stages.inversion.pictures import encode
from stages.models.backbone import Backbone
from stages.models.params import Concept


@dataclass(frozen=True)
class Examples:
    """Picture files to learn from with the texts beside them, and picture files to judge by."""

    train: list[Path]
    captions: list[str | None]
    holdout: list[Path]


def teach(
    backbone: Backbone,
    concept: Concept,
    recipe: Train,
    examples: Examples,
    *,
    speed: Speed,
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
    backbone.release_encoder()
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
        speed = replace(speed, micro_batch=found.micro_batch)
    compute = Compute(backbone, speed, recipe.batch_size)
    compute.fit(initial, sampler.draw(0, mine), speed.gradient_checkpointing)
    sizes = crew.gather(torch.tensor([compute.micro_batch], device=backbone.device))
    compute.micro_batch = int(sizes.min())
    state = found or start(recipe, initial, compute.micro_batch)
    optimizer = Optimizer(recipe, backbone.typical_norm())
    return learn(recipe, state, compute, sampler, fixed, optimizer=optimizer, crew=crew, around=around)
