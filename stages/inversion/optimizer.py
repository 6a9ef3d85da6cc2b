"""AdamW on the word's few vectors, the learning rate of every step, and the loss scale of half precision.

The vectors live on the CPU, whatever the device: 3 kB a step travel with the gradient that is waited for anyway, the
arithmetic is the same on every device, and the state is at hand for a checkpoint.
"""

from collections.abc import Callable

import numpy as np
import torch
from diffusers.optimization import get_scheduler
from torch.optim.adamw import adamw

from stages import UserError
from stages.inversion.checkpoint import State
from stages.inversion.params import Train

GROWTH_STEPS = 2000
LEAST_SCALE = 2.0**-14
NORMAL_RANGE = 2.0**24


class Optimizer:
    """(state, scaled gradient) => the state one step on."""

    def __init__(self, recipe: Train, typical_norm: float) -> None:
        self._recipe = recipe
        self._longest = recipe.max_vector_norm and recipe.max_vector_norm * typical_norm
        self.rate = learning_rates(recipe)

    def step(self, state: State, gradient: np.ndarray) -> float:
        """State, finite gradient (V D, times the loss scale) => the learning rate that was taken; the state moves on.

        torch's own AdamW as a function of moments that it changes in place, so that the state alone decides the next
        step. The device waits for this: an optimizer object for every step takes half as long again.
        """
        recipe, rate = self._recipe, self.rate(state.step)
        vectors = torch.nn.Parameter(torch.from_numpy(state.vectors))
        vectors.grad = torch.from_numpy(gradient / state.scale).float().view_as(vectors)
        if recipe.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_([vectors], recipe.max_gradient_norm)
        adamw(
            [vectors.data],
            [vectors.grad],
            [torch.from_numpy(state.first_moment)],
            [torch.from_numpy(state.second_moment)],
            [],
            [torch.tensor(float(state.step))],
            foreach=False,
            amsgrad=False,
            beta1=recipe.adam_beta1,
            beta2=recipe.adam_beta2,
            lr=rate,
            weight_decay=recipe.adam_weight_decay,
            eps=recipe.adam_epsilon,
            maximize=False,
        )
        if self._longest is not None:
            norms = vectors.data.norm(dim=1, keepdim=True)
            vectors.data *= (self._longest / norms).clamp(max=1.0)
        state.step += 1
        state.good_steps += 1
        if recipe.mixed_precision == "fp16" and state.good_steps % GROWTH_STEPS == 0:
            state.scale = min(2 * state.scale, NORMAL_RANGE)
        return rate

    def lower_scale(self, state: State, timesteps: list[int]) -> None:
        """After a gradient that is not finite: half the loss scale, for the same step to be computed again.

        No update is made with such a gradient, and none is lost. Raises UserError when no scale can help.
        """
        if self._recipe.mixed_precision != "fp16" or state.scale <= LEAST_SCALE:
            raise UserError(
                f"the gradient of step {state.step} (timesteps {timesteps}) is not a number; lower "
                "`train.learning_rate`, set `train.max_gradient_norm: 1.0`, or try `train.mixed_precision: bf16`."
            )
        state.scale /= 2
        state.good_steps = 0
        state.overflows += 1


def learning_rates(recipe: Train) -> Callable[[int], float]:
    """The recipe => a function from a step's number to its learning rate.

    The shapes are diffusers'; each of them is a pure function of the step, so a resumed run has nothing to restore.
    """
    base = recipe.learning_rate * (recipe.batch_size if recipe.scale_learning_rate else 1)
    unit = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    options = {"num_warmup_steps": recipe.lr_warmup_steps, "num_training_steps": recipe.steps}
    shape = get_scheduler(
        recipe.lr_scheduler,
        unit,
        step_rules=recipe.lr_step_rules,
        num_cycles=recipe.lr_cycles,
        power=recipe.lr_power,
        **options,
    )
    return lambda step: base * shape.lr_lambdas[0](step)
