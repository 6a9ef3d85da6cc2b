"""AdamW on the embedding's vectors, the learning rate schedule, and the loss scale of half precision.

Legend: V vectors of the embedding, D width.
"""

from collections.abc import Callable

import numpy as np
import torch
from diffusers.optimization import get_scheduler
from torch.optim.adamw import adamw

from stages import UserError
from stages.inversion.params import Train
from stages.inversion.state import TrainState
from stages.models.embedding import Tables

MIN_SCALE = 2.0**-14
MAX_SCALE = 2.0**24
GROWTH_INTERVAL = 2000


class Optimizer:
    """The update of the embedding: AdamW, the pull towards the initializer token, and the projection to the sphere.

    `initializer` (V D) is the initializer token's embedding. The radius of the sphere is the mean norm of the
    `token_embeddings` (N D). Each of the tables has a sphere, and a pull, of its own.
    """

    def __init__(
        self, recipe: Train, tables: Tables, initializer: torch.Tensor, token_embeddings: torch.Tensor
    ) -> None:
        self._recipe, self._tables = recipe, tables
        self._direction = tables.normalize(initializer)
        self._radius = tables.map(lambda part: part.norm(dim=1).mean().expand(1, part.shape[1]), token_embeddings)
        self._rate = learning_rates(recipe)

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        """Project vectors (V D) to the nearest ones that `train.geometry` allows the optimizer."""
        return self._tables.normalize(vectors) * self._radius if self._recipe.geometry == "sphere" else vectors

    @torch.no_grad()
    def step(self, state: TrainState, loss: float, gradient: torch.Tensor) -> dict[str, float]:
        """Update `state` with the mean loss and its gradient (V D), and return scalars to log."""
        recipe, rate, step = self._recipe, self._rate(state.step), torch.tensor(float(state.step))
        if recipe.prior:
            norms, cosines = self._tables.norms(state.vectors), self._cosines(state.vectors)
            gradient = gradient - recipe.prior / norms * (self._direction - cosines * state.vectors / norms)
        if recipe.max_gradient_norm is not None:
            # As torch.nn.utils.clip_grad_norm_ does.
            gradient = gradient * (recipe.max_gradient_norm / (gradient.norm() + 1e-6)).clamp(max=1.0)
        adamw(
            [state.vectors], [gradient], [state.first_moment], [state.second_moment], [], [step],
            foreach=False, amsgrad=False, maximize=False, lr=rate, beta1=recipe.adam_beta1, beta2=recipe.adam_beta2,
            weight_decay=recipe.adam_weight_decay, eps=recipe.adam_epsilon,
        )  # fmt: skip
        state.vectors = self.project(state.vectors)
        state.average = self.project(recipe.ema_decay * state.average + (1 - recipe.ema_decay) * state.vectors)
        state.step += 1
        state.train_losses.append(loss)
        state.norms.append(float(np.mean(self._tables.mean_norms(state.vectors))))
        state.scale.good_steps += 1
        if recipe.mixed_precision == "fp16" and state.scale.good_steps % GROWTH_INTERVAL == 0:
            state.scale.value = min(2 * state.scale.value, MAX_SCALE)
        return {"loss": loss, "learning_rate": rate, "vector_norm": state.norms[-1]}

    def _cosines(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the cosines of each vector and the initializer token, which `train.prior` raises, by table (V D)."""
        products = self._tables.normalize(vectors) * self._direction
        return self._tables.map(lambda part: part.sum(1, keepdim=True).expand_as(part), products)


def reduce_scale(recipe: Train, state: TrainState, timesteps: torch.Tensor) -> None:
    """Halve the loss scale after a gradient that is not finite, so that the step can be computed again.

    No update is made with such a gradient, and none is skipped. Raises UserError if no scale can help.
    """
    scale = state.scale
    if recipe.mixed_precision != "fp16" or scale.value <= MIN_SCALE:
        raise UserError(
            f"the gradient of step {state.step} (timesteps {timesteps.tolist()}) contains NaN or Inf; lower "
            "`train.learning_rate`, set `train.max_gradient_norm: 1.0`, or try `train.mixed_precision: bf16`."
        )
    scale.value, scale.good_steps, scale.overflows = scale.value / 2, 0, scale.overflows + 1


def learning_rates(recipe: Train) -> Callable[[int], float]:
    """Return the learning rate as a function of the step.

    The schedules are diffusers'; each is a pure function of the step, so that a resumed run has nothing to restore.
    """
    base = recipe.learning_rate * (recipe.batch_size if recipe.scale_learning_rate else 1)
    schedule = get_scheduler(
        recipe.lr_scheduler,
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base),
        step_rules=recipe.lr_step_rules,
        num_warmup_steps=recipe.lr_warmup_steps,
        num_training_steps=recipe.steps,
        num_cycles=recipe.lr_cycles,
        power=recipe.lr_power,
    )
    return lambda step: base * schedule.lr_lambdas[0](step)
