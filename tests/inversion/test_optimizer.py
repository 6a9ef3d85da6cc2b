"""AdamW, learning rates and the loss scale, held to torch's and diffusers' own."""

import numpy as np
import pytest
import torch
from diffusers.optimization import get_scheduler

from stages import UserError
from stages.inversion.checkpoint import State
from stages.inversion.loop import start
from stages.inversion.optimizer import GROWTH_STEPS, LEAST_SCALE, NORMAL_RANGE, Optimizer, learning_rates
from stages.inversion.params import Train

GRADIENTS = np.random.default_rng(0).normal(size=(8, 2, 5)).astype(np.float32)
INITIAL = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32))


def advance(optimizer: Optimizer, state: State, gradient: np.ndarray, loss: float = 1.0) -> bool:
    """A step with a gradient that is scaled already => whether the word moved; if so, the state moves on."""
    total = torch.from_numpy(np.array([loss, *gradient.ravel(), 0.0], dtype=np.float32))
    told = optimizer.step(total, state.step, state.scale).numpy()
    assert np.array_equal(told[:2], total[[0, -1]].numpy(), equal_nan=True)
    assert np.array_equal(told[3:][: INITIAL.numel()], optimizer.vectors.numpy().ravel())
    if told[2]:
        optimizer.confirm(state, told[3:])
    return bool(told[2])


@pytest.mark.parametrize("options", [{}, {"adam_weight_decay": 0.0}, {"max_gradient_norm": 0.5}, {"adam_beta1": 0.5}])
def test_many_steps_are_those_of_torch(options: dict):
    recipe = Train(steps=8, learning_rate=0.1, lr_scheduler="cosine", lr_warmup_steps=2, **options)
    state = start(recipe, INITIAL, 4)
    optimizer = Optimizer(recipe, 1.0, state, "cpu")
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
        assert advance(optimizer, state, gradient)
    assert np.array_equal(state.vectors, theirs.detach().numpy())
    assert state.step == 8
    assert np.array_equal(INITIAL.numpy(), start(recipe, INITIAL, 4).vectors), "the initial word must stay as it was"


def test_a_step_asks_nothing_of_the_device():
    """On a device whose tensors have no values, to ask for one is an error."""
    recipe = Train(steps=2, mixed_precision="fp16", max_gradient_norm=1.0, max_vector_norm=1.5)
    optimizer = Optimizer(recipe, 1.0, start(recipe, INITIAL, 4), "meta")
    for step in range(2):
        told = optimizer.step(torch.empty(1 + INITIAL.numel() + 1, device="meta"), step, 2.0**16)
    assert (told.device.type, told.shape) == ("meta", (3 + 3 * INITIAL.numel(),))


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
    assert advance(Optimizer(recipe, 2.0, state, "cpu"), state, GRADIENTS[0])
    assert np.linalg.norm(state.vectors, axis=1) == pytest.approx([3.0, 3.0], rel=1e-6)


def test_half_precision_takes_the_scale_out_again():
    """A power of two: the word is the same to the last bit."""
    plain, half = Train(steps=2, learning_rate=0.1), Train(steps=2, learning_rate=0.1, mixed_precision="fp16")
    states = [start(plain, INITIAL, 4), start(half, INITIAL, 4)]
    assert states[1].scale == 2.0**16
    for recipe, state in zip((plain, half), states, strict=True):
        assert advance(Optimizer(recipe, 1.0, state, "cpu"), state, GRADIENTS[0] * np.float32(state.scale))
    assert np.array_equal(states[0].vectors, states[1].vectors)


def test_an_overflow_halves_the_scale_and_changes_nothing_else():
    recipe = Train(steps=2, mixed_precision="fp16")
    state = start(recipe, INITIAL, 4)
    optimizer = Optimizer(recipe, 1.0, state, "cpu")
    before = state.vectors.copy()
    state.good_steps = 77
    optimizer.lower_scale(state, torch.tensor([1, 2]))
    assert (state.scale, state.overflows, state.step, state.good_steps) == (2.0**15, 1, 0, 0)
    assert np.array_equal(state.vectors, before)


@pytest.mark.parametrize(
    "bad",
    [
        {"gradient": np.where(np.arange(10) == 7, np.inf, GRADIENTS[1].ravel())},
        {"gradient": np.full(10, np.nan)},
        {"gradient": GRADIENTS[1], "loss": np.inf},
    ],
    ids=["inf", "nan", "loss"],
)
def test_after_a_step_that_moves_nothing_the_next_ones_move_nothing_until_the_scale_is_lower(bad: dict):
    recipe = Train(steps=3, learning_rate=0.1, mixed_precision="fp16", max_gradient_norm=1.0)
    state, calm = (start(recipe, INITIAL, 4) for _ in range(2))
    optimizer, undisturbed = (Optimizer(recipe, 1.0, one, "cpu") for one in (state, calm))
    for one, other in ((optimizer, state), (undisturbed, calm)):
        assert advance(one, other, GRADIENTS[0])
    assert not advance(optimizer, state, **bad)
    assert not advance(optimizer, state, GRADIENTS[2])
    optimizer.lower_scale(state, torch.tensor([1]))
    for one, other in ((optimizer, state), (undisturbed, calm)):
        assert advance(one, other, GRADIENTS[1] * np.float32(other.scale / 2**16))
    for name in ("vectors", "first_moment", "second_moment", "step"):
        assert np.array_equal(getattr(state, name), getattr(calm, name)), name


def test_a_long_time_without_overflow_doubles_the_scale_up_to_a_limit():
    recipe = Train(steps=5, mixed_precision="fp16")
    state = start(recipe, INITIAL, 4)
    optimizer = Optimizer(recipe, 1.0, state, "cpu")
    state.good_steps = GROWTH_STEPS - 1
    assert [optimizer.scale(state, steps) for steps in range(3)] == [2.0**16, 2.0**17, 2.0**17]
    assert advance(optimizer, state, GRADIENTS[0])
    assert state.scale == 2.0**17
    assert [optimizer.scale(state, steps) for steps in (0, GROWTH_STEPS - 1, GROWTH_STEPS)] == [
        2.0**17,
        2.0**17,
        2.0**18,
    ]
    state.good_steps, state.scale = GROWTH_STEPS - 1, NORMAL_RANGE
    assert advance(optimizer, state, GRADIENTS[0])
    assert state.scale == NORMAL_RANGE


def test_without_half_precision_the_scale_never_grows():
    recipe = Train(steps=5)
    state = start(recipe, INITIAL, 4)
    state.good_steps = GROWTH_STEPS - 1
    assert advance(Optimizer(recipe, 1.0, state, "cpu"), state, GRADIENTS[0])
    assert state.scale == 1.0


@pytest.mark.parametrize("recipe", [Train(), Train(mixed_precision="fp16")], ids=["float32", "fp16 at the least scale"])
def test_when_no_scale_can_help_the_run_ends_with_advice(recipe: Train):
    state = start(recipe, INITIAL, 4)
    state.scale = LEAST_SCALE
    with pytest.raises(UserError, match=r"step 0 \(timesteps \[5\]\) is not a number; lower `train.learning_rate`"):
        Optimizer(recipe, 1.0, state, "cpu").lower_scale(state, torch.tensor([5]))
