"""Set up textual inversion, run the training loop, and test the chosen embedding."""

from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator

from stages.common.distributed import check_processes, share
from stages.common.runtime import Runtime
from stages.inversion.callbacks import Callbacks
from stages.inversion.dataset import CuratedImages, encode_dataset
from stages.inversion.diffusion_loss import DiffusionLoss
from stages.inversion.loop import training_loop
from stages.inversion.optimizer import Optimizer
from stages.inversion.params import Train
from stages.inversion.sampler import Sampler
from stages.inversion.state import TrainState, initial_state
from stages.inversion.validation import FixedLoss, RelativeLoss, fixed_batch, relative_loss
from stages.models.backbone import Backbone
from stages.models.params import Concept
from stages.models.preview import preview


@dataclass(frozen=True)
class Result:
    """The final state, and the relative loss of the best embedding on the test batch."""

    state: TrainState
    test: RelativeLoss


def train(
    backbone: Backbone,
    concept: Concept,
    recipe: Train,
    runtime: Runtime,
    images: CuratedImages,
    *,
    accelerator: Accelerator,
    callbacks: Callbacks,
    resumed: TrainState | None = None,
) -> Result:
    """Learn the embedding of the placeholder token, from the start or from the state `resumed`.

    The validation batch chooses the best embedding; the test batch has the same images with other noise, and chooses
    nothing.
    """
    check_processes(accelerator, recipe.batch_size)
    (cache, ids), held_out = encode_dataset(backbone, concept, recipe, images)
    seed, schedule = recipe.seed, backbone.schedule
    sampler = Sampler(cache, ids, schedule, recipe)
    fixed = partial(fixed_batch, *held_out, schedule.timesteps, seed=seed, strata=recipe.validation_timesteps)
    loss = DiffusionLoss(backbone, recipe.batch_size, graph=backbone.device.type == "cuda")
    state = resumed or initial_state(recipe, backbone.initial_vectors(seed), runtime.micro_batch)
    samples = sampler.draw(0, share(recipe.batch_size, accelerator))
    micro_batch = loss.fit_micro_batch(
        state.vectors, samples, fixed("validation"), state.micro_batch, runtime.gradient_checkpointing
    )
    state.micro_batch = int(accelerator.gather(torch.tensor([micro_batch], device=backbone.device)).min())
    validation, test = (FixedLoss(loss, fixed(stream), accelerator) for stream in ("validation", "test"))
    initializer = backbone.initializer_vectors()
    if state.reference is None:
        state.reference = validation(initializer, state.micro_batch)
    caption, shape = recipe.progress_prompt.replace("{}", concept.placeholder_token), tuple(cache.mean.shape[1:])
    training_loop(
        recipe,
        state,
        sampler,
        loss,
        validation=validation,
        optimizer=Optimizer(recipe, backbone.mean_norm()),
        preview=lambda vectors: preview(backbone, caption, vectors, shape, seed),
        accelerator=accelerator,
        callbacks=callbacks,
    )
    best, reference = (test(vectors, state.micro_batch) for vectors in (state.best, initializer))
    return Result(state, relative_loss(best, reference))
