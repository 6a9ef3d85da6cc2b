"""AdamW, learning rates and the loss scale, held to torch's and diffusers' own."""

import numpy as np
import pytest
import torch
from diffusers.optimization import get_scheduler

from stages import UserError
from stages.inversion.loop import start
from stages.inversion.optimizer import GROWTH_STEPS, LEAST_SCALE, NORMAL_RANGE, Optimizer, learning_rates
from stages.inversion.params import Train

GRADIENTS = np.random.default_rng(0).normal(size=(8, 2, 5)).astype(np.float32)
INITIAL = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32))


@pytest.mark.parametrize("options", [{}, {"adam_weight_decay": 0.0}, {"max_gradient_norm": 0.5}, {"adam_beta1": 0.5}])
def test_many_steps_are_those_of_torch(options: dict):
    recipe = Train(steps=8, learning_rate=0.1, lr_scheduler="cosine", lr_warmup_steps=2, **options)
    state, optimizer = start(recipe, INITIAL, 4), Optimizer(recipe, 1.0)
    theirs = torch.nn.Parameter(INITIAL.clone())
    adam = torch.optim.AdamW(
        [theirs], lr=0.1, betas=(recipe.adam_beta1, 0.999), weight_decay=recipe.adam_weight_decay, foreach=False
    )
    shape = get_scheduler("cosine", adam, num_warmup_steps=2, num_training_steps=8)
    for gradient in GRADIENTS:
        theirs.grad = torch.from_numpy(gradient).clone()
        if recipe.max_gradient_norm:
            torch.nn.utils.clip_grad_norm_([theirs], recipe.max_gradient_norm)
        adam.step()
        shape.step()
        optimizer.step(state, gradient.ravel())
    assert np.array_equal(state.vectors, theirs.detach().numpy())
    assert state.step == 8
    assert np.array_equal(INITIAL.numpy(), start(recipe, INITIAL, 4).vectors), "the initial word must stay as it was"


SHAPES = [
    ("linear", {}),
    ("cosine", {}),
    ("cosine_with_restarts", {"lr_cycles": 3}),
    ("polynomial", {"lr_power": 2.0}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("piecewise_constant", {"lr_step_rules": "1:10,0.1:20,0.01"}),
]


@pytest.mark.parametrize(("name", "options"), SHAPES)
def test_learning_rates_are_those_of_diffusers(name: str, options: dict):
    recipe = Train(steps=50, learning_rate=2e-3, lr_scheduler=name, lr_warmup_steps=5, **options)
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    theirs = get_scheduler(
        name,
        adam,
        num_warmup_steps=5,
        num_training_steps=50,
        num_cycles=recipe.lr_cycles,
        power=recipe.lr_power,
        step_rules=recipe.lr_step_rules,
    )
    ours = learning_rates(recipe)
    for step in range(50):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12), step
        adam.step()
        theirs.step()


def test_every_scheduler_of_the_schema_is_compared():
    assert {name for name, _ in SHAPES} == set(Train.model_fields["lr_scheduler"].annotation.__args__)


def test_scaling_multiplies_by_the_global_batch():
    """The reference recipe: 1e-2 at 1 x 4 accumulated is 4e-2 in effect."""
    assert learning_rates(Train(learning_rate=1e-2, scale_learning_rate=True, batch_size=4))(0) == pytest.approx(4e-2)
    assert learning_rates(Train(learning_rate=1e-2, batch_size=4))(0) == pytest.approx(1e-2)


def test_a_long_vector_is_cut_to_so_many_usual_norms():
    recipe = Train(steps=1, learning_rate=10.0, max_vector_norm=1.5)
    state = start(recipe, INITIAL, 4)
    Optimizer(recipe, 2.0).step(state, GRADIENTS[0].ravel())
    assert np.linalg.norm(state.vectors, axis=1) == pytest.approx([3.0, 3.0], rel=1e-6)


def test_half_precision_takes_the_scale_out_again():
    """A power of two: the word is the same to the last bit."""
    plain, half = Train(steps=2, learning_rate=0.1), Train(steps=2, learning_rate=0.1, mixed_precision="fp16")
    states = [start(plain, INITIAL, 4), start(half, INITIAL, 4)]
    assert states[1].scale == 2.0**16
    for recipe, state in zip((plain, half), states, strict=True):
        Optimizer(recipe, 1.0).step(state, GRADIENTS[0].ravel() * np.float32(state.scale))
    assert np.array_equal(states[0].vectors, states[1].vectors)


def test_an_overflow_halves_the_scale_and_changes_nothing_else():
    recipe = Train(steps=2, mixed_precision="fp16")
    state, optimizer = start(recipe, INITIAL, 4), Optimizer(recipe, 1.0)
    before = state.vectors.copy()
    state.good_steps = 77
    optimizer.lower_scale(state, [1, 2])
    assert (state.scale, state.overflows, state.step, state.good_steps) == (2.0**15, 1, 0, 0)
    assert np.array_equal(state.vectors, before)


def test_a_long_time_without_overflow_doubles_the_scale_up_to_a_limit():
    recipe = Train(steps=5, mixed_precision="fp16")
    state, optimizer = start(recipe, INITIAL, 4), Optimizer(recipe, 1.0)
    state.good_steps = GROWTH_STEPS - 1
    optimizer.step(state, GRADIENTS[0].ravel())
    assert state.scale == 2.0**17
    state.good_steps, state.scale = GROWTH_STEPS - 1, NORMAL_RANGE
    optimizer.step(state, GRADIENTS[0].ravel())
    assert state.scale == NORMAL_RANGE


@pytest.mark.parametrize("recipe", [Train(), Train(mixed_precision="fp16")], ids=["float32", "fp16 at the least scale"])
def test_when_no_scale_can_help_the_run_ends_with_advice(recipe: Train):
    state = start(recipe, INITIAL, 4)
    state.scale = LEAST_SCALE
    with pytest.raises(UserError, match=r"step 0 \(timesteps \[5\]\) is not a number; lower `train.learning_rate`"):
        Optimizer(recipe, 1.0).lower_scale(state, [5])
