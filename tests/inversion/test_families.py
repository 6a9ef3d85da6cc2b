"""Training of Stable Diffusion XL and 3: the same promises as for Stable Diffusion 1.x."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import UserError
from stages.common.distributed import share
from stages.inversion.dataset import curated_images, encode_dataset
from stages.inversion.diffusion_loss import DiffusionLoss
from stages.inversion.loop import PausedError
from stages.inversion.params import Train
from stages.inversion.sampler import Sampler
from stages.models.backbone import Backbone
from stages.models.noise_schedule import FlowSchedule
from stages.models.params import Concept, Model
from tests.inversion.test_loop import overflow_at
from tests.inversion.test_sampler import process
from tests.inversion.tiny_training import CONCEPT, RecordingCallbacks, assert_same, open_once, patch_predict, run
from tests.tiny import tiny_sd3, tiny_sdxl

NAMES = ("sdxl", "sd3", "sd3 frozen", "sd3 none")
SEARCH = CONCEPT.model_copy(update={"vectors": 2, "initialization": "search"})
OPTIONS = {"progress_every": 100, "snapshot_every": 2, "geometry": "sphere", "prior": 1e-3, "learning_rate": 0.05}
OPTIONS |= {"search_starts": 3, "search_words": 2, "search_steps": 1, "steps": 4}

Open = Callable[..., Backbone]


@pytest.fixture(scope="module")
def open_family(tmp_path_factory: pytest.TempPathFactory) -> Open:
    folder = tmp_path_factory.mktemp("families")
    models = {"sdxl": tiny_sdxl(folder / "sdxl"), "sd3": tiny_sd3(folder / "sd3")}

    def open_named(name: str, concept: Concept = SEARCH, **model: str) -> Backbone:
        torch.set_num_threads(1)
        folder, _, t5 = name.partition(" ")
        model = Model(base=str(models[folder]), t5=t5 or "train", **model)
        return copy.deepcopy(open_once(model, concept, torch.float32))

    return open_named


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_run_learns_repeats_and_resumes(name: str, open_family: Open, curated: Path):
    callbacks, stopped = RecordingCallbacks(), RecordingCallbacks(stop_at=3)
    result = run(open_family(name), curated, concept=SEARCH, callbacks=callbacks, **OPTIONS)
    state, widths = result.state, list(result.tables.widths.values())
    assert min(relative.value for relative in state.curve()) < 1.0
    for part, before in zip(state.vectors.split(widths, 1), state.initial.split(widths, 1), strict=True):
        assert ((part - before).abs().amax(1) > 1e-5).all(), "every vector is trained in every table"
        torch.testing.assert_close(part.norm(dim=1), before.norm(dim=1))
    with pytest.raises(PausedError):
        run(open_family(name), curated, concept=SEARCH, callbacks=stopped, **OPTIONS)
    again = RecordingCallbacks()
    resumed = run(open_family(name), curated, concept=SEARCH, callbacks=again, resumed=stopped.saved[-1], **OPTIONS)
    assert_same(resumed.state, state)
    assert (resumed.test, resumed.nearest) == (result.test, result.nearest)
    previews = stopped.previews | again.previews
    assert all(np.array_equal(previews[step], image) for step, image in callbacks.previews.items())


@pytest.mark.parametrize("name", NAMES)
def test_batch_split_does_not_change_the_gradient(name: str, open_family: Open, curated: Path):
    """Batch 4 as 1x4, 2x2, 3+1 and on two processes."""
    backbone, recipe = open_family(name), Train(flip=True, seed=3)
    training, _ = encode_dataset(backbone, SEARCH, recipe, curated_images(curated))
    sampler, vectors = Sampler(*training, backbone.schedule, recipe), backbone.text.initializer_vectors()
    loss = DiffusionLoss(backbone, 4, "auto", graph=False)
    full = loss.gradient(vectors, 1.0, sampler.draw(3, range(4)))
    for part in backbone.text.tables.split(full[1:].view_as(vectors)).values():
        assert (part.norm(dim=1) > 0).all()
    for micro_batch in (1, 2, 3):
        loss.micro_batch = micro_batch
        split = loss.gradient(vectors, 1.0, sampler.draw(3, range(4)))
        torch.testing.assert_close(split, full, rtol=1e-3, atol=1e-6)
    parts = [loss.gradient(vectors, 1.0, sampler.draw(3, share(4, process(rank, 2)))) for rank in (0, 1)]
    torch.testing.assert_close(sum(parts), full, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_micro_batch_changes_rounding_only(name: str, open_family: Open, curated: Path):
    options = {"steps": 3, "flip": False, "geometry": "sphere"}
    states = [run(open_family(name, CONCEPT), curated, micro_batch=size, **options).state for size in (4, 2, 1)]
    for state in states[1:]:
        torch.testing.assert_close(state.vectors, states[0].vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_weights_in_8_bits_are_trained_with_and_repeat(name: str, open_family: Open, curated: Path):
    options = {"steps": 2, "progress_every": 2}
    states = [run(open_family(name, CONCEPT, storage_dtype="fp8"), curated, **options).state for _ in range(2)]
    assert_same(*states)
    full = run(open_family(name, CONCEPT), curated, **options).state
    assert states[0].train_losses != full.train_losses
    torch.testing.assert_close(torch.tensor(states[0].train_losses), torch.tensor(full.train_losses), rtol=0.05, atol=0)


@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_overflow_skips_no_update(name: str, open_family: Open, curated: Path):
    options = OPTIONS | {"mixed_precision": "fp16", "progress_every": 0}
    backbone = open_family(name, CONCEPT)
    patch_predict(backbone, overflow_at({0, 2, 3}))
    state = run(backbone, curated, **options).state
    without = run(open_family(name, CONCEPT), curated, **options).state
    assert state.scale.overflows - without.scale.overflows == 3
    assert_same(state, without, ignore=("scale",))


def test_min_snr_is_refused_for_a_flow(open_family: Open, curated: Path):
    with pytest.raises(UserError, match=r"^`train.min_snr_gamma` is for diffusion models.*: set it to null\.$"):
        run(open_family("sd3 none"), curated, concept=SEARCH, min_snr_gamma=5.0)
    run(open_family("sdxl", CONCEPT), curated, min_snr_gamma=5.0, steps=1)


def test_sizes_of_the_index_reach_the_denoiser_of_sdxl(open_family: Open, curated: Path, tmp_path: Path):
    index = json.loads((curated / "index.json").read_text())
    for part in ("train", "holdout"):
        (tmp_path / part).symlink_to(curated / part)
    index["train"][1] |= {"original_size": [480, 640], "crop": [0, 96]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    backbone, recipe = open_family("sdxl"), Train(flip=True)
    (cache, ids), (holdout, _) = encode_dataset(backbone, SEARCH, recipe, curated_images(tmp_path))
    square = [32.0, 32.0, 0.0, 0.0, 32.0, 32.0]
    assert cache.sizes.tolist() == [square, [480.0, 640.0, 0.0, 96.0, 32.0, 32.0], square]
    assert holdout.sizes.tolist() == [square] * 2
    assert cache.square()[1].tolist() == [square]
    batch = Sampler(cache, ids, backbone.schedule, recipe).draw(0, range(3))  # an epoch has every image once
    assert sorted(batch.sizes.tolist()) == sorted(cache.sizes.tolist())
    loss, vectors = DiffusionLoss(backbone, 3, "auto", graph=False), backbone.text.initializer_vectors()
    sized = loss.losses(vectors, batch)
    batch.sizes[:] = torch.tensor(square)
    assert (loss.losses(vectors, batch) != sized).sum() == 1


def test_timesteps_of_a_flow_are_logit_normal_and_stratified_at_their_quantiles():
    schedule, rng = FlowSchedule(shift=3.0, timesteps=1000), np.random.default_rng(0)
    drawn = np.array([schedule.draw(rng) for _ in range(20_000)]) / 1000
    unshifted = drawn / (3 - 2 * drawn)  # the inverse of the shift
    logits = np.log(unshifted / (1 - unshifted))
    assert (logits.mean(), logits.std()) == pytest.approx((0, 1), abs=0.02)
    for q in (0.1, 0.5, 0.9):
        assert (1000 * drawn <= schedule.quantile(q)).mean() == pytest.approx(q, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_step_never_waits_for_the_device(name: str, open_family: Open, curated: Path, monkeypatch: pytest.MonkeyPatch):
    """A CUDA graph cannot capture a function that reads a tensor's values; on the device `meta` there are none."""
    monkeypatch.setattr("transformers.utils.import_utils.is_cuda_stream_capturing", lambda: True)
    backbone, recipe = open_family(name), Train()
    training, _ = encode_dataset(backbone, SEARCH, recipe, curated_images(curated))
    batch = Sampler(*training, backbone.schedule, recipe).draw(0, range(2)).to(torch.device("meta"))
    for module in (backbone.denoiser, *backbone.text_encoders):
        module.to("meta")
    if name == "sd3 frozen":
        backbone.text.fixed._outputs = [outputs.to("meta") for outputs in backbone.text.fixed._outputs]
    backbone.schedule, loss = backbone.schedule.to("meta"), DiffusionLoss(backbone, 2, "auto", graph=False)
    vectors = torch.zeros(2, sum(backbone.text.tables.widths.values()), device="meta")
    _, gradient = loss._loss_and_gradient(vectors, torch.ones((), device="meta"), *batch.tensors())
    assert gradient.shape == vectors.shape
