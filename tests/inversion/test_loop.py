"""The training loop on the tiny model: what it learns, keeps, repeats and refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from stages import UserError
from stages.inversion import optimizer
from stages.inversion.loop import PausedError
from stages.inversion.train import Result
from tests.inversion.tiny_training import (
    CONCEPT,
    RecordingCallbacks,
    assert_same,
    open_tiny,
    patch_predict,
    run,
)
from tests.slow import slow
from tests.tiny import tiny_model

INTERVALS = {"progress_every": 3, "snapshot_every": 2}


@pytest.fixture(scope="module")
def uninterrupted(folder: Path, curated: Path) -> tuple[Result, RecordingCallbacks]:
    callbacks = RecordingCallbacks()
    return run(open_tiny(folder), curated, callbacks=callbacks, **INTERVALS), callbacks


def test_validation_loss_falls_and_everything_is_logged(uninterrupted: tuple[Result, RecordingCallbacks]):
    state, callbacks = uninterrupted[0].state, uninterrupted[1]
    values = [relative.value for relative in state.curve()]
    assert values[0] == 1.0
    assert min(values) < 0.999
    assert state.validated == [0, 2, 4, 6]
    assert [step for step, values in callbacks.logged if "loss" in values] == [1, 2, 3, 4, 5, 6]
    assert [step for step, values in callbacks.logged if "validation_loss" in values] == [0, 2, 4, 6]
    assert sorted(callbacks.previews) == [0, 3, 6]
    assert state.snapshot_steps == [2, 4, 6]
    assert len(state.train_losses) == len(state.norms) == state.step == 6


def test_test_batch_has_the_images_of_the_validation_batch_and_other_noise(
    uninterrupted: tuple[Result, RecordingCallbacks],
):
    result = uninterrupted[0]
    best = result.state.curve()[result.state.validated.index(result.state.best_step)]
    assert result.test != best
    assert result.test.value == pytest.approx(best.value, abs=0.05)


def test_best_embedding_is_kept_and_not_the_last(folder: Path, curated: Path):
    """The model gets worse after the validation at step 4: three validations and the reference precede it."""
    backbone = open_tiny(folder)
    patch_predict(backbone, lambda p, calls, with_grad: p if with_grad or calls < 4 else p + 5.0)
    state = run(backbone, curated).state
    assert (state.best_step, state.step) == (4, 6)
    assert torch.equal(state.best, run(open_tiny(folder), curated, steps=4).state.vectors)
    assert not torch.equal(state.best, state.vectors)


def test_only_the_embedding_changes(folder: Path, curated: Path):
    backbone = open_tiny(folder)
    modules = (backbone.denoiser, *backbone.text_encoders)
    before = [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]
    run(backbone, curated, steps=2)
    for module, old in zip(modules, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("stop_at", [0, 1, 3, 5])
def test_stopped_and_resumed_equals_uninterrupted(
    folder: Path, curated: Path, uninterrupted: tuple[Result, RecordingCallbacks], stop_at: int
):
    first, second = RecordingCallbacks(stop_at=stop_at), RecordingCallbacks()
    with pytest.raises(PausedError) as paused:
        run(open_tiny(folder), curated, callbacks=first, **INTERVALS)
    assert paused.value.step == stop_at == first.saved[-1].step
    result = run(open_tiny(folder), curated, resumed=first.saved[-1], callbacks=second, **INTERVALS)
    assert_same(result.state, uninterrupted[0].state)
    assert result.test == uninterrupted[0].test
    previews = first.previews | second.previews
    assert all(np.array_equal(previews[step], image) for step, image in uninterrupted[1].previews.items())


def test_run_stopped_after_its_last_step_takes_no_more_steps(
    folder: Path, curated: Path, uninterrupted: tuple[Result, RecordingCallbacks]
):
    (ended,), callbacks = uninterrupted[1].ended, RecordingCallbacks()
    result = run(open_tiny(folder), curated, resumed=ended, callbacks=callbacks, **INTERVALS)
    assert_same(result.state, uninterrupted[0].state)
    assert result.test == uninterrupted[0].test
    assert not callbacks.saved
    assert not callbacks.logged


def test_micro_batch_changes_rounding_only(
    folder: Path, curated: Path, uninterrupted: tuple[Result, RecordingCallbacks]
):
    for micro_batch in (1, 2):
        state = run(open_tiny(folder), curated, micro_batch=micro_batch).state
        torch.testing.assert_close(state.vectors, uninterrupted[0].state.vectors, rtol=0, atol=1e-5)


def test_resumed_run_keeps_its_micro_batch(folder: Path, curated: Path):
    callbacks = RecordingCallbacks()
    full = run(open_tiny(folder), curated, callbacks=callbacks, micro_batch=1).state
    resumed = run(open_tiny(folder), curated, resumed=callbacks.saved[2], micro_batch=4).state
    assert torch.equal(resumed.vectors, full.vectors)


def test_early_stopping_ends_the_run(folder: Path, curated: Path):
    options = {"early_stopping": "plateau", "early_stopping_patience": 4, "early_stopping_fall": 0.5, "steps": 40}
    state = run(open_tiny(folder), curated, **options).state
    assert 4 <= state.step < 40
    assert state.validated[-1] == state.step


def overflow_at(calls: set[int]) -> object:
    """Make the predictions of these calls with gradient infinite."""
    return lambda predicted, call, with_grad: predicted * torch.inf if with_grad and call in calls else predicted


@pytest.mark.parametrize("calls", [{0}, slow({1, 2}), {3, 4, 5}, {1, 4}, slow({5}), {5, 6}], ids=str)
def test_overflow_skips_no_update_and_every_checkpoint_resumes(
    folder: Path, curated: Path, calls: set[int], monkeypatch: pytest.MonkeyPatch
):
    """The scale is a power of two, so after overflows the embedding equals that of a run without, to the last bit."""
    monkeypatch.setattr(optimizer, "GROWTH_INTERVAL", 3)
    options = {"mixed_precision": "fp16", "snapshot_every": 2}
    backbone, callbacks = open_tiny(folder), RecordingCallbacks()
    patch_predict(backbone, overflow_at(calls))
    state = run(backbone, curated, callbacks=callbacks, **options).state
    without = run(open_tiny(folder), curated, **options).state
    assert state.scale.overflows == len(calls)
    assert_same(state, without, ignore=("scale",))
    for saved in callbacks.saved[::3]:
        assert_same(run(open_tiny(folder), curated, resumed=saved, **options).state, without, ignore=("scale",))


def test_infinite_loss_in_full_precision_ends_the_run(folder: Path, curated: Path):
    backbone = open_tiny(folder)
    patch_predict(backbone, overflow_at({3}))
    with pytest.raises(UserError, match=r"the gradient of step 3 \(timesteps .*\) contains NaN or Inf; lower"):
        run(backbone, curated)


def test_vae_that_returns_nan_is_reported_with_the_image(folder: Path, curated: Path, tmp_path: Path):
    model = shutil.copytree(folder, tmp_path / "model")
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file(weights | {"encoder.conv_in.weight": torch.full_like(weights["encoder.conv_in.weight"], 1e35)}, file)
    with pytest.raises(UserError, match=r"train/00\.png contain NaN or Inf: .*cannot encode it; exclude the image"):
        run(open_tiny(model), curated)


@pytest.mark.parametrize("damage", ["cut", "size"])
def test_unusable_image_is_reported(folder: Path, curated: Path, tmp_path: Path, damage: str):
    images = shutil.copytree(curated, tmp_path / "curated")
    file = images / "train" / "01.png"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        Image.new("RGB", (64, 64)).save(file)
    with pytest.raises(UserError, match=r"train/01\.png .*run `dvc repro -f curate`"):
        run(open_tiny(folder), images)


def test_reference_is_the_initializer_token_for_every_start(folder: Path, curated: Path):
    word = run(open_tiny(folder), curated, steps=2).state
    concept = CONCEPT.model_copy(update={"initialization": "random"})
    random = run(open_tiny(folder, concept), curated, concept=concept, steps=2).state
    assert torch.equal(random.reference, word.reference)
    assert torch.equal(word.validation[0], word.reference)
    assert not torch.equal(random.validation[0], random.reference)


@pytest.mark.parametrize(
    "options",
    [
        {"vectors": 3},
        {"vectors": 2, "initialization": "random"},
        {"initialization": "phrase", "initializer_token": "small red dragon"},
    ],
    ids=["several vectors", "random", "phrase"],
)
def test_every_vector_is_trained(folder: Path, curated: Path, options: dict):
    concept = CONCEPT.model_copy(update=options)
    backbone = open_tiny(folder, concept)
    state = run(backbone, curated, concept=concept, steps=2, captions=["a {}", "the {}"]).state
    assert state.vectors.shape == (concept.vectors, 32)
    assert ((state.vectors - state.initial).abs().amax(dim=1) > 1e-4).all()


@pytest.mark.parametrize(
    "options",
    [
        {"min_snr_gamma": 5.0},
        {"flip": False},
        {"captions": ["the {}"]},
        {"geometry": "sphere"},
        {"prior": 1e-3},
        {"seed": 1},
        {"adam_beta1": 0.5},
        {"lr_scheduler": "cosine"},
        {"max_gradient_norm": 1e-6, "adam_epsilon": 1e-3},
    ],
    ids=str,
)
def test_every_param_has_an_effect(
    folder: Path, curated: Path, uninterrupted: tuple[Result, RecordingCallbacks], options: dict
):
    state = run(open_tiny(folder), curated, **options).state
    assert not torch.equal(state.vectors, uninterrupted[0].state.vectors)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_other_prediction_types_learn(curated: Path, tmp_path: Path, prediction_type: str):
    backbone = open_tiny(tiny_model(tmp_path / "model", prediction_type))
    assert backbone.schedule.prediction_type == prediction_type
    state = run(backbone, curated, steps=20, validation_every=5).state
    assert min(relative.value for relative in state.curve()) < 1.0


def test_without_held_out_images_the_training_images_validate(folder: Path, curated: Path, tmp_path: Path):
    images = shutil.copytree(curated, tmp_path / "curated")
    index = json.loads((images / "index.json").read_text())
    (images / "index.json").write_text(json.dumps(index | {"holdout": []}))
    state = run(open_tiny(folder), images, steps=2).state
    assert state.validation[0].shape == (3 * 2,)
