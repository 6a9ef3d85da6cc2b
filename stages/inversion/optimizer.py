"""AdamW on the word's few vectors, the learning rate of every step, and the loss scale of half precision.

The word that is being learnt lives on the device, where the next gradient needs it: a step may be launched before the
one in front of it is known. What a step did is told to the host with the whole word (9 kB for one of Stable Diffusion
1.5), so that the host's state has all of every step that it knows of, whatever the device does by then.

Legend: V vectors of the word, D width.
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
    """The word on the device, vectors and AdamW's two moments (3 V D), moved by gradients; and what that means for the
    state on the host."""

    def __init__(self, recipe: Train, typical_norm: float, state: State, device: torch.device | str) -> None:
        self._recipe = recipe
        self._longest = recipe.max_vector_norm and recipe.max_vector_norm * typical_norm
        word = np.stack([state.vectors, state.first_moment, state.second_moment])
        self._word = torch.from_numpy(word).to(device)
        self._alive = torch.ones((), dtype=torch.bool, device=device)
        self.rate = learning_rates(recipe)

    @property
    def vectors(self) -> torch.Tensor:
        """=> the vectors (V D) after all that was launched, on the device; nothing changes this tensor any more."""
        return self._word[0]

    @torch.no_grad()
    def step(self, total: torch.Tensor, step: int, scale: float) -> torch.Tensor:
        """Sums over all processes of the loss, the gradient times `scale`, and the wishes to stop (1 + V D + 1), on the
        device => what the host has to know, there too (3 + 3 V D): loss, wishes, whether the word moved, the word.

        The word moves if loss and gradient are finite. If not, it stays as it is, also for the steps that were launched
        behind this one, until `lower_scale`. Nothing waits for the device here.
        """
        self._alive = self._alive & torch.isfinite(total[:-1]).all()
        self._word = torch.where(self._alive, self._updated(total[1:-1] / scale, step), self._word)
        return torch.cat([total[:1], total[-1:], self._alive[None].float(), self._word.flatten()])

    def _updated(self, gradient: torch.Tensor, step: int) -> torch.Tensor:
        """A gradient (V D) => the word after it (3 V D).

        torch's own AdamW as a function of moments that it changes in place: an optimizer object for every step takes
        half as long again. The step's number and the rate are the host's, so nothing has to be asked of the device.
        """
        recipe, word = self._recipe, self._word.clone()
        vectors = torch.nn.Parameter(word[0])
        vectors.grad = gradient.view_as(vectors)
        if recipe.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_([vectors], recipe.max_gradient_norm)
        adamw(
            [vectors.data],
            [vectors.grad],
            [word[1]],
            [word[2]],
            [],
            [torch.tensor(float(step))],
            foreach=False,
            amsgrad=False,
            beta1=recipe.adam_beta1,
            beta2=recipe.adam_beta2,
            lr=self.rate(step),
            weight_decay=recipe.adam_weight_decay,
            eps=recipe.adam_epsilon,
            maximize=False,
        )
        if self._longest is not None:
            norms = vectors.data.norm(dim=1, keepdim=True)
            vectors.data *= (self._longest / norms).clamp(max=1.0)
        return word

    def scale(self, state: State, steps: int) -> float:
        """State => the loss scale that it will have after so many steps more, if all of their gradients are finite."""
        if self._recipe.mixed_precision != "fp16":
            return state.scale
        doublings = (state.good_steps + steps) // GROWTH_STEPS - state.good_steps // GROWTH_STEPS
        return min(state.scale * 2.0**doublings, NORMAL_RANGE)

    def confirm(self, state: State, word: np.ndarray) -> float:
        """State, the word after its step (3 V D, in a row) => the learning rate that was taken; the state moves on."""
        rate = self.rate(state.step)
        state.vectors, state.first_moment, state.second_moment = word.reshape(3, *state.vectors.shape)
        state.scale = self.scale(state, 1)
        state.step += 1
        state.good_steps += 1
        return rate

    def lower_scale(self, state: State, timesteps: torch.Tensor) -> None:
        """After a gradient that is not finite: half the loss scale, for the same step to be launched again.

        No update is made with such a gradient, and none is lost. Raises UserError when no scale can help.
        """
        if self._recipe.mixed_precision != "fp16" or state.scale <= LEAST_SCALE:
            raise UserError(
                f"the gradient of step {state.step} (timesteps {timesteps.tolist()}) is not a number; lower "
                "`train.learning_rate`, set `train.max_gradient_norm: 1.0`, or try `train.mixed_precision: bf16`."
            )
        state.scale /= 2
        state.good_steps = 0
        state.overflows += 1
        self._alive = torch.ones_like(self._alive)


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
