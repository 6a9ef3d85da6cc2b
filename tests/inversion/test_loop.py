"""The loop in one process on the tiny model: what it learns, keeps, repeats and refuses."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from stages import UserError
from stages.inversion.checkpoint import State
from stages.inversion.loop import PausedError
from stages.inversion.validation import curve
from stages.models.stable_diffusion import StableDiffusion
from tests.inversion.tiny_training import CONCEPT, Notebook, opened, run
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def straight(folder: Path, curated: Path) -> tuple[State, Notebook]:
    """A run without any disturbance, with everything that it told."""
    notebook = Notebook()
    return run(opened(folder), curated, notebook=notebook, progress_every=3, snapshot_every=2), notebook


def test_the_objective_falls_and_everything_is_told(straight: tuple[State, Notebook]):
    state, notebook = straight
    values = [value.relative for value in curve(state.cells, state.reference)]
    assert values[0] == 1.0
    assert min(values) < 0.999
    assert state.evaluated == [0, 2, 4, 6]
    assert [step for step, values in notebook.logged if "loss" in values] == [1, 2, 3, 4, 5, 6]
    assert [step for step, values in notebook.logged if "objective" in values] == [0, 2, 4, 6]
    assert sorted(notebook.pictures) == [0, 3, 6]
    assert state.snapped == [2, 4, 6]
    assert len(state.losses) == len(state.norms) == state.step == 6


def test_the_word_that_is_kept_is_the_best_and_not_the_last(folder: Path, curated: Path):
    """A model that goes astray for the evaluations after the third one."""

    def change(backbone: StableDiffusion) -> None:
        predict, evaluations = backbone.predict, []

        def astray(*inputs: torch.Tensor) -> torch.Tensor:
            predicted = predict(*inputs)
            if not torch.is_grad_enabled():
                evaluations.append(None)
            return predicted + (5.0 if not torch.is_grad_enabled() and len(evaluations) > 3 else 0.0)

        backbone.predict = astray

    state = run(opened(folder), curated, change=change)
    whole = run(opened(folder), curated, steps=4)
    assert (state.best_step, state.step) == (4, 6)
    assert np.array_equal(state.best, whole.vectors)
    assert not np.array_equal(state.best, state.vectors)


def test_only_the_word_changes(folder: Path, curated: Path):
    backbone = opened(folder)
    before = {name: value.clone() for name, value in backbone.denoiser.state_dict().items()}
    before |= {name: value.clone() for name, value in backbone.text_encoder.state_dict().items()}
    run(backbone, curated, steps=2)
    after = backbone.denoiser.state_dict() | backbone.text_encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("stop_at", [0, 1, 3, 5])
def test_stopped_and_gone_on_is_the_same_as_straight_through(
    folder: Path, curated: Path, straight: tuple[State, Notebook], stop_at: int
):
    whole, told = straight
    options = {"progress_every": 3, "snapshot_every": 2}
    first = Notebook(stop_at=stop_at)
    with pytest.raises(PausedError) as pause:
        run(opened(folder), curated, notebook=first, **options)
    assert pause.value.step == stop_at == first.saved[0].step
    second = Notebook()
    state = run(opened(folder), curated, found=copy.deepcopy(first.saved[0]), notebook=second, **options)
    for name, value in vars(whole).items():
        assert np.array_equal(np.asarray(getattr(state, name)), np.asarray(value)), name
    drawn = first.pictures | second.pictures
    assert all(np.array_equal(drawn[step], told.pictures[step]) for step in told.pictures)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_the_micro_batch_changes_no_draw_and_hardly_a_bit(
    folder: Path, curated: Path, straight: tuple[State, Notebook], micro_batch: int
):
    state = run(opened(folder), curated, micro_batch=micro_batch)
    np.testing.assert_allclose(state.vectors, straight[0].vectors, atol=1e-5)


def test_a_run_that_goes_on_keeps_the_micro_batch_that_it_began_with(folder: Path, curated: Path):
    notebook = Notebook(stop_at=2)
    with pytest.raises(PausedError):
        run(opened(folder), curated, notebook=notebook, micro_batch=1)
    state = run(opened(folder), curated, found=notebook.saved[0], micro_batch=4)
    assert np.array_equal(state.vectors, run(opened(folder), curated, micro_batch=1).vectors)


def test_early_stopping_ends_the_run(folder: Path, curated: Path):
    options = {"early_stopping": "plateau", "early_stopping_patience": 4, "early_stopping_fall": 0.5, "steps": 40}
    state = run(opened(folder), curated, **options)
    assert 4 <= state.step < 40
    assert state.evaluated[-1] == state.step


def burst(times: set[int]) -> object:
    """=> a change of the model after which the predictions of these calls (with gradient) are infinite."""

    def change(backbone: StableDiffusion) -> None:
        predict, calls = backbone.predict, []

        def broken(*inputs: torch.Tensor) -> torch.Tensor:
            predicted = predict(*inputs)
            if predicted.requires_grad:
                calls.append(None)
            return predicted * (float("inf") if predicted.requires_grad and len(calls) - 1 in times else 1.0)

        backbone.predict = broken

    return change


def test_an_overflow_loses_no_update_and_applies_none(folder: Path, curated: Path, straight: tuple[State, Notebook]):
    """The scale is a power of two, so that after two overflows the word is that of a run without, to the last bit."""
    state = run(opened(folder), curated, change=burst({1, 2}), mixed_precision="fp16")
    calm = run(opened(folder), curated, mixed_precision="fp16")
    assert (state.overflows, state.scale) == (2, 2.0**14)
    assert (state.step, len(state.losses)) == (6, 6)
    assert np.array_equal(state.vectors, calm.vectors)
    assert np.array_equal(calm.vectors, straight[0].vectors)


def test_in_full_precision_an_infinite_loss_ends_the_run_with_advice(folder: Path, curated: Path):
    with pytest.raises(UserError, match=r"the gradient of step 3 \(timesteps .*\) is not a number; lower"):
        run(opened(folder), curated, change=burst({3}))


def test_latents_that_are_not_numbers_are_named_before_anything_is_learnt(folder: Path, curated: Path):
    def change(backbone: StableDiffusion) -> None:
        encode, calls = backbone.encode, []

        def broken(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            mean, std = encode(pictures)
            calls.append(None)
            mean[1, 0, 0, 0] = float("nan")
            return mean, std

        backbone.encode = broken

    with pytest.raises(UserError, match=r"the latents of .*train/01\.png are not numbers: .*exclude the picture"):
        run(opened(folder), curated, change=change)


def test_weights_that_are_not_numbers_end_the_run_in_a_sentence(folder: Path, curated: Path, tmp_path: Path):
    model = shutil.copytree(folder, tmp_path / "model")
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights = {name: value.numpy().copy() for name, value in load_file(file).items()}
    weights["encoder.conv_in.weight"][:] = np.nan
    save_file(weights, file)
    with pytest.raises(UserError, match="the model's VAE cannot encode it"):
        run(opened(model), curated)


@pytest.mark.parametrize("damage", ["cut", "size"])
def test_a_picture_that_cannot_be_used_is_named(folder: Path, curated: Path, tmp_path: Path, damage: str):
    from PIL import Image

    pictures = shutil.copytree(curated, tmp_path / "curated")
    file = pictures / "train" / "01.png"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        Image.new("RGB", (64, 64)).save(file)
    with pytest.raises(UserError, match=r"train/01\.png .*run `dvc repro curate` again"):
        run(opened(folder), pictures)


def test_whatever_it_starts_from_a_word_is_compared_with_the_initializer_word(folder: Path, curated: Path):
    word = run(opened(folder), curated, steps=2)
    random = run(opened(folder, CONCEPT.model_copy(update={"initialization": "random"})), curated, steps=2)
    assert np.array_equal(random.reference, word.reference)
    assert np.array_equal(word.cells[0], word.reference)
    assert not np.array_equal(random.cells[0], random.reference)


@pytest.mark.parametrize(
    "options",
    [
        {"vectors": 3},
        {"vectors": 2, "initialization": "random"},
        {"initialization": "phrase", "initializer_token": "small red dragon"},
    ],
    ids=["several vectors", "random", "phrase"],
)
def test_every_kind_of_word_is_learnt(folder: Path, curated: Path, options: dict):
    concept = CONCEPT.model_copy(update=options)
    backbone = opened(folder, concept)
    before = backbone.initial_vectors(0).numpy()
    state = run(backbone, curated, concept=concept, steps=2, captions=["a {}", "the {}"])
    assert state.vectors.shape == (concept.vectors, 32)
    assert (np.abs(state.vectors - before).max(axis=1) > 1e-4).all(), "every vector of the word must be trained"


@pytest.mark.parametrize(
    "options",
    [
        {"min_snr_gamma": 5.0},
        {"flip": False},
        {"captions": ["the {}"]},
        {"max_vector_norm": 0.5},
        {"seed": 1},
        {"adam_beta1": 0.5},
        {"lr_scheduler": "cosine"},
        {"max_gradient_norm": 1e-6, "adam_epsilon": 1e-3},
    ],
)
def test_every_choice_has_an_effect(folder: Path, curated: Path, straight: tuple[State, Notebook], options: dict):
    state = run(opened(folder), curated, **options)
    assert not np.array_equal(state.vectors, straight[0].vectors)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_models_of_other_predictions_learn_too(curated: Path, tmp_path: Path, prediction_type: str):
    backbone = opened(tiny_model(tmp_path / "model", prediction_type))
    assert backbone.schedule.prediction_type == prediction_type
    state = run(backbone, curated, steps=20, validation_every=5)
    assert min(value.relative for value in curve(state.cells, state.reference)) < 1.0


def test_without_held_out_pictures_the_training_pictures_are_judged_with_noise_of_their_own(
    folder: Path, curated: Path, tmp_path: Path
):
    import json

    pictures = shutil.copytree(curated, tmp_path / "curated")
    index = json.loads((pictures / "index.json").read_text())
    (pictures / "index.json").write_text(json.dumps(index | {"holdout": []}))
    state = run(opened(folder), pictures, steps=2)
    assert state.cells[0].shape == (3 * 2,)


def test_more_processes_than_samples_are_refused(folder: Path, curated: Path, monkeypatch: pytest.MonkeyPatch):
    from tests.inversion import world

    monkeypatch.setattr(world.Solo, "num_processes", 5)
    monkeypatch.setattr(world.Solo, "__init__", lambda self: setattr(self, "num_processes", 5))
    with pytest.raises(UserError, match="5 processes cannot share a batch of 4; launch fewer"):
        run(opened(folder), curated)
