"""AdamW and learning rates equal those of torch and diffusers; the loss scale skips no update."""

import pytest
import torch
from diffusers.optimization import get_scheduler
from torch.nn import functional as F

from stages import UserError
from stages.inversion.optimizer import (
    GROWTH_INTERVAL,
    MAX_SCALE,
    MIN_SCALE,
    Optimizer,
    learning_rates,
    reduce_scale,
)
from stages.inversion.params import Train
from stages.inversion.state import TrainState, initial_state
from stages.models.embedding import Tables

GRADIENTS = torch.randn(8, 2, 5, generator=torch.Generator().manual_seed(0))
INITIAL = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
ONE, TWO = Tables({"clip": 5}), Tables({"clip_l": 2, "clip_g": 3})


def make_optimizer(recipe: Train, tables: Tables = ONE, norms: tuple[float, ...] = (1.0,)) -> Optimizer:
    """Return an optimizer for a model whose token embeddings have these norms in its tables."""
    parts = [
        norm * F.normalize(torch.ones(3, width)) for norm, width in zip(norms, tables.widths.values(), strict=True)
    ]
    return Optimizer(recipe, tables, INITIAL, torch.cat(parts, dim=1))


def make_state(recipe: Train) -> TrainState:
    return initial_state(recipe, "start", INITIAL, torch.ones(6))


@pytest.mark.parametrize("options", [{}, {"adam_weight_decay": 0.0}, {"max_gradient_norm": 0.5}, {"adam_beta1": 0.5}])
def test_steps_equal_those_of_torch(options: dict):
    recipe = Train(steps=8, learning_rate=0.1, lr_scheduler="cosine", lr_warmup_steps=2, **options)
    state, optimizer = make_state(recipe), make_optimizer(recipe)
    parameter = torch.nn.Parameter(INITIAL.clone())
    adam = torch.optim.AdamW(
        [parameter], lr=0.1, betas=(recipe.adam_beta1, 0.999), weight_decay=recipe.adam_weight_decay, foreach=False
    )
    schedule = get_scheduler("cosine", adam, num_warmup_steps=2, num_training_steps=8)
    initial = INITIAL.clone()
    for gradient in GRADIENTS:
        parameter.grad = gradient.clone()
        if recipe.max_gradient_norm:
            torch.nn.utils.clip_grad_norm_([parameter], recipe.max_gradient_norm)
        adam.step()
        rate = schedule.get_last_lr()[0]
        schedule.step()
        assert optimizer.step(state, 1.0, gradient)["learning_rate"] == pytest.approx(rate, rel=1e-12)
    assert torch.equal(state.vectors, parameter.detach())
    assert torch.equal(state.average, state.vectors)
    assert state.step == len(state.train_losses) == 8
    assert torch.equal(INITIAL, initial), "the initial vectors must not be changed in place"


SCHEDULES = [
    ("linear", {}),
    ("cosine", {}),
    ("cosine_with_restarts", {"lr_cycles": 3}),
    ("polynomial", {"lr_power": 2.0}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("piecewise_constant", {"lr_step_rules": "1:10,0.1:20,0.01"}),
]


@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_learning_rates_equal_those_of_diffusers(name: str, options: dict):
    recipe = Train(steps=50, learning_rate=2e-3, lr_scheduler=name, lr_warmup_steps=5, **options)
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    schedule = get_scheduler(
        name,
        adam,
        num_warmup_steps=5,
        num_training_steps=50,
        num_cycles=recipe.lr_cycles,
        power=recipe.lr_power,
        step_rules=recipe.lr_step_rules,
    )
    rate = learning_rates(recipe)
    for step in range(50):
        assert rate(step) == pytest.approx(schedule.get_last_lr()[0], rel=1e-12), step
        adam.step()
        schedule.step()


def test_every_schedule_of_the_schema_is_compared():
    assert {name for name, _ in SCHEDULES} == set(Train.model_fields["lr_scheduler"].annotation.__args__)


def test_scaled_learning_rate_is_multiplied_by_the_global_batch():
    assert learning_rates(Train(learning_rate=1e-2, scale_learning_rate=True, batch_size=4))(0) == pytest.approx(4e-2)
    assert learning_rates(Train(learning_rate=1e-2, batch_size=4))(0) == pytest.approx(1e-2)


@pytest.mark.parametrize(("tables", "norms"), [(ONE, (2.0,)), (TWO, (2.0, 0.5))], ids=["one table", "two tables"])
def test_sphere_keeps_the_norm_and_the_direction_of_adamw(tables: Tables, norms: tuple[float, ...]):
    recipe = Train(steps=1, learning_rate=0.1, geometry="sphere", adam_weight_decay=0.0)
    free, state = Train(steps=1, learning_rate=0.1, adam_weight_decay=0.0), make_state(recipe)
    make_optimizer(recipe, tables, norms).step(state, 1.0, GRADIENTS[0])
    unbound = make_state(free)
    make_optimizer(free, tables, norms).step(unbound, 1.0, GRADIENTS[0])
    parts, directions = tables.split(state.vectors), tables.split(unbound.vectors)
    for name, norm in zip(tables.widths, norms, strict=True):
        torch.testing.assert_close(parts[name], norm * F.normalize(directions[name]))
    assert state.norms == [pytest.approx(sum(norms) / len(norms))]


@pytest.mark.parametrize("tables", [ONE, TWO], ids=["one table", "two tables"])
def test_prior_adds_the_gradient_of_the_cosine_distance(tables: Tables):
    recipe, vectors = Train(prior=0.3), torch.randn(2, 5, generator=torch.Generator().manual_seed(2))
    state, given = initial_state(recipe, "start", vectors, torch.ones(6)), []
    optimizer = make_optimizer(recipe, tables, (1.0,) * len(tables.widths))
    leaf = vectors.clone().requires_grad_()
    for part, initial in zip(tables.split(leaf).values(), tables.split(INITIAL).values(), strict=True):
        (0.3 * (1 - torch.cosine_similarity(part, initial, dim=1)).sum()).backward()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "stages.inversion.optimizer.adamw", lambda _, gradients, *args, **options: given.extend(gradients)
        )
        optimizer.step(state, 1.0, GRADIENTS[0])
    torch.testing.assert_close(given[0], GRADIENTS[0] + leaf.grad)


def test_moving_average_has_the_weights_of_its_decay():
    recipe = Train(steps=8, learning_rate=0.1, ema_decay=0.75)
    state, optimizer = make_state(recipe), make_optimizer(recipe)
    expected = INITIAL.clone()
    for gradient in GRADIENTS:
        optimizer.step(state, 1.0, gradient)
        expected = 0.75 * expected + 0.25 * state.vectors
    torch.testing.assert_close(state.average, expected)


def test_overflow_halves_the_scale_and_changes_nothing_else():
    recipe = Train(steps=2, mixed_precision="fp16")
    state = make_state(recipe)
    assert state.scale.value == 2.0**16
    state.scale.good_steps = 77
    reduce_scale(recipe, state, torch.tensor([1, 2]))
    assert (state.scale.value, state.scale.overflows, state.scale.good_steps, state.step) == (2.0**15, 1, 0, 0)
    assert torch.equal(state.vectors, INITIAL)


@pytest.mark.parametrize(
    ("precision", "before", "after"), [("fp16", 2.0**16, 2.0**17), ("fp16", MAX_SCALE, MAX_SCALE), ("no", 1.0, 1.0)]
)
def test_scale_doubles_after_many_good_steps_up_to_a_limit(precision: str, before: float, after: float):
    recipe = Train(steps=5, mixed_precision=precision)
    state = make_state(recipe)
    state.scale.value, state.scale.good_steps = before, GROWTH_INTERVAL - 2
    values = []
    for gradient in GRADIENTS[:3]:
        make_optimizer(recipe).step(state, 1.0, gradient)
        values.append(state.scale.value)
    assert values == [before, after, after]


@pytest.mark.parametrize("recipe", [Train(), Train(mixed_precision="fp16")], ids=["float32", "fp16 at the least scale"])
def test_run_ends_with_advice_if_no_scale_can_help(recipe: Train):
    state = make_state(recipe)
    state.scale.value = MIN_SCALE
    with pytest.raises(UserError, match=r"step 0 \(timesteps \[5\]\) contains NaN or Inf; lower `train.learning_rate`"):
        reduce_scale(recipe, state, torch.tensor([5]))
