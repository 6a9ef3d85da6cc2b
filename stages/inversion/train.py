"""Set up textual inversion, run the training loop, and test the chosen embedding."""

from dataclasses import dataclass
from functools import partial

from accelerate import Accelerator

from stages import UserError
from stages.common.distributed import check_world_size, share
from stages.common.runtime import Runtime
from stages.inversion.callbacks import Callbacks
from stages.inversion.dataset import CuratedImages, encode_dataset
from stages.inversion.diffusion_loss import DiffusionLoss
from stages.inversion.initialization import nearest_words, starts
from stages.inversion.loop import training_loop
from stages.inversion.optimizer import Optimizer
from stages.inversion.params import Train
from stages.inversion.sampler import Sampler
from stages.inversion.search import search
from stages.inversion.state import TrainState, initial_state
from stages.inversion.validation import FixedLoss, RelativeLoss, fixed_batch, relative_loss
from stages.models.backbone import Backbone
from stages.models.cuda_graph import can_capture
from stages.models.embedding import Tables
from stages.models.params import Concept
from stages.models.preview import preview
from stages.models.sharding import is_sharded

HELD_OUT = ("validation", "test")  # the streams of the batches of held-out images
SEARCH_TIMESTEPS = 4  # at which the search sees each training image


@dataclass(frozen=True)
class Result:
    """The final state, the model's tables of token embeddings and its name in the standard of ModelSpec, the relative
    loss of the best embedding on the test batch, and the words nearest to the start and to the best embedding.
    """

    state: TrainState
    tables: Tables
    architecture: str
    test: RelativeLoss
    nearest_start: str
    nearest: str


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
    """Train the embedding of the placeholder token, from the start or from the state `resumed`, and test it.

    The validation batch chooses the best embedding; the test batch has the same images with other noise, and chooses
    nothing.
    """
    _check_processes(accelerator, recipe, is_sharded(backbone.denoiser))
    training, held_out = encode_dataset(backbone, concept, recipe, images)
    text, sampler = backbone.text, Sampler(*training, backbone.schedule, recipe)
    initializer, fixed = text.initializer_vectors(), partial(fixed_batch, schedule=backbone.schedule, seed=recipe.seed)
    validation, test = (fixed(*held_out, stream, strata=recipe.validation_timesteps) for stream in HELD_OUT)
    loss = DiffusionLoss(backbone, recipe.batch_size, (resumed or runtime).micro_batch, graph=can_capture(backbone))
    samples = sampler.draw(0, share(recipe.batch_size, accelerator))
    loss.fit_micro_batch(initializer, samples, validation, runtime.gradient_checkpointing, accelerator)
    validation, test = (FixedLoss(loss, batch, accelerator) for batch in (validation, test))
    caption, scene = recipe.progress_prompt.replace("{}", concept.placeholder_token), training[0].square()
    optimizer = Optimizer(recipe, text.tables, initializer, text.token_embeddings())
    advance = partial(
        training_loop,
        recipe,
        sampler=sampler,
        loss=loss,
        validation=validation,
        optimizer=optimizer,
        preview=lambda vectors: preview(backbone, caption, vectors, *scene, seed=recipe.seed),
        accelerator=accelerator,
    )
    state = resumed
    if state is None:
        comparison = FixedLoss(loss, fixed(*training, "search", strata=SEARCH_TIMESTEPS), accelerator)
        reference, states = validation(initializer), []
        for start in starts(text, concept, recipe, comparison):
            vectors = optimizer.project(start.vectors)
            states.append(initial_state(recipe, start.name, vectors, reference, loss.micro_batch))
        state = search(states, advance, comparison, recipe.search_steps, callbacks)
    state.micro_batch = loss.micro_batch
    advance(state, callbacks=callbacks)
    callbacks.end(state)
    nearest, tested = [nearest_words(text, vectors) for vectors in (state.initial, state.best)], test(state.best)
    return Result(state, text.tables, backbone.architecture, relative_loss(tested, test(initializer)), *nearest)


def _check_processes(accelerator: Accelerator, recipe: Train, sharded: bool) -> None:
    check_world_size(accelerator, recipe.batch_size, equal_shares=sharded)
    if sharded and recipe.progress_every:
        raise UserError("previews are drawn by one process, and FSDP needs all of them; set `train.progress_every: 0`.")
