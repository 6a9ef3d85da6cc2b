"""What only a GPU can show: the step as a CUDA graph, overflow in half precision, out of memory, two GPUs."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from stages.common.runtime import Runtime
from stages.inversion import optimizer
from stages.inversion import train as training
from stages.inversion.dataset import curated_images
from stages.inversion.diffusion_loss import DiffusionLoss
from stages.inversion.params import Train
from stages.inversion.state import TrainState
from stages.models.acceleration import apply_kernels
from stages.models.device import DTYPES, configure_torch
from stages.models.loading import open_backbone
from stages.models.params import Model
from tests.closure import ROOT
from tests.inversion.stage_process import make_project
from tests.inversion.tiny_training import CONCEPT, RECIPE, RecordingCallbacks, assert_same, open_tiny
from tests.inversion.tiny_training import run as run_on_cpu
from tests.tiny import tiny_model, tiny_sd3, tiny_sdxl

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def run(
    folder: Path,
    curated: Path,
    *,
    precision: str = "no",
    callbacks: RecordingCallbacks | None = None,
    resumed: TrainState | None = None,
    micro_batch: int | str = "auto",
    checkpointing: bool | str = False,
    storage_dtype: str | None = None,
    offload: bool | str = "auto",
    **recipe: object,
) -> TrainState:
    """Train on the GPU."""
    AcceleratorState._reset_state(reset_partial_state=True)  # a test before may have used the CPU
    runtime = Runtime(device="cuda", threads=1, micro_batch=micro_batch, gradient_checkpointing=checkpointing)
    device = configure_torch(runtime)
    model = Model(base=str(folder), storage_dtype=storage_dtype)
    backbone = open_backbone(model, CONCEPT, device, DTYPES[precision], offload=offload)
    assert apply_kernels(backbone, runtime, 100) == []
    return training.train(
        backbone,
        CONCEPT,
        Train(**{**RECIPE, "mixed_precision": precision, **recipe}),
        runtime,
        curated_images(curated),
        accelerator=Accelerator(),
        callbacks=callbacks or RecordingCallbacks(),
        resumed=resumed,
    ).state


# The gradient of some numbers of the tiny SDXL is near 1e-8, which is rounding noise, and AdamW normalizes it.
TOLERANCES = {tiny_model: 1e-4, tiny_sdxl: 1e-3, tiny_sd3: 1e-4}


def assert_near(one: TrainState, other: TrainState, tolerance: float = 1e-4, losses: float | None = None) -> None:
    """AdamW normalizes tiny gradients, so single values may differ more than their mean."""
    assert (one.vectors - other.vectors).abs().mean() < tolerance
    found, expected = (torch.tensor(state.train_losses) for state in (one, other))
    torch.testing.assert_close(found, expected, rtol=losses or 10 * tolerance, atol=0)


@pytest.mark.parametrize(("precision", "tolerance"), [("no", 1e-4), ("fp16", 1e-3), ("bf16", 5e-3)])
def test_graph_computes_what_its_function_computes(
    folder: Path, curated: Path, precision: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
):
    graphed = run(folder, curated, precision=precision)
    monkeypatch.setattr(training, "DiffusionLoss", lambda *inputs, graph: DiffusionLoss(*inputs, graph=False))
    assert_near(run(folder, curated, precision=precision), graphed, tolerance)


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_two_runs_have_the_same_bytes(folder: Path, curated: Path, micro_batch: int):
    assert_same(*(run(folder, curated, micro_batch=micro_batch, precision="fp16") for _ in range(2)))


def test_overflow_skips_no_update_and_checkpoints_resume(folder: Path, curated: Path, monkeypatch: pytest.MonkeyPatch):
    """The scale doubles after every other step, until the gradients overflow."""
    monkeypatch.setattr(optimizer, "GROWTH_INTERVAL", 2)
    monkeypatch.setattr(optimizer, "MAX_SCALE", 2.0**40)
    callbacks, options = RecordingCallbacks(), {"precision": "fp16", "snapshot_every": 2, "steps": 40}
    state = run(folder, curated, callbacks=callbacks, **options)
    assert state.scale.overflows > 0
    assert len(state.train_losses) == 40
    assert_same(run(folder, curated, resumed=callbacks.saved[25], **options), state)


def test_launch_of_a_step_does_not_wait_for_the_device(folder: Path, curated: Path, monkeypatch: pytest.MonkeyPatch):
    gradient = DiffusionLoss.gradient
    calls = []

    def watched(self: DiffusionLoss, *inputs: object) -> torch.Tensor:
        calls.append(None)
        torch.cuda.set_sync_debug_mode("error" if len(calls) > 2 else "default")  # after the captures
        try:
            return gradient(self, *inputs)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(DiffusionLoss, "gradient", watched)
    run(folder, curated, precision="fp16", micro_batch=2)


def test_gradient_checkpointing_is_captured(folder: Path, curated: Path):
    assert_near(*(run(folder, curated, checkpointing=checkpointing) for checkpointing in (False, True)))


def test_embedding_equals_that_of_the_cpu(folder: Path, curated: Path):
    assert_near(run(folder, curated), run_on_cpu(open_tiny(folder), curated).state)


def test_previews_are_drawn_between_graphs(folder: Path, curated: Path):
    callbacks = RecordingCallbacks()
    run(folder, curated, callbacks=callbacks, progress_every=3, precision="fp16")
    assert sorted(callbacks.previews) == [0, 3, 6]
    assert callbacks.previews[0].std() > 1


def test_micro_batch_is_halved_when_memory_runs_out(folder: Path, curated: Path):
    """The limit is half of the memory that the full batch takes."""
    recipe = {"batch_size": 4096, "steps": 2, "flip": False}
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    full = run(folder, curated, **recipe)
    limit = before + (torch.cuda.max_memory_reserved() - before) / 2
    gc.collect()  # the backbone and its graphs refer to each other
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
        small = run(folder, curated, checkpointing="auto", **recipe)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert small.micro_batch < 4096
    assert_near(small, full)


@pytest.mark.parametrize("build", [tiny_sdxl, tiny_sd3])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_other_families_repeat_and_equal_the_cpu(
    build: Callable[[Path], Path], precision: str, curated: Path, tmp_path: Path
):
    """The step is one graph of two or three text encoders and the denoiser."""
    model = build(tmp_path / "model")
    state = run(model, curated, precision=precision, progress_every=3)
    assert_same(run(model, curated, precision=precision, progress_every=3), state)
    assert_near(run(model, curated, precision=precision, checkpointing=True, micro_batch=2), state, 5e-3)
    assert_near(run(model, curated), run_on_cpu(open_tiny(model), curated).state, TOLERANCES[build], losses=1e-3)


@pytest.mark.parametrize("build", [tiny_model, tiny_sdxl, tiny_sd3])
def test_weights_in_8_bits_are_captured_and_repeat(build: Callable[[Path], Path], curated: Path, tmp_path: Path):
    model, options = build(tmp_path / "model"), {"precision": "bf16", "storage_dtype": "fp8"}
    state = run(model, curated, **options)
    assert_same(run(model, curated, **options), state)
    assert_near(run(model, curated, checkpointing=True, micro_batch=2, **options), state, 5e-3)


@pytest.mark.parametrize("build", [tiny_model, tiny_sdxl, tiny_sd3])
def test_weights_in_host_memory_learn_the_same(build: Callable[[Path], Path], curated: Path, tmp_path: Path):
    model = build(tmp_path / "model")
    states = (run(model, curated, offload=offload, checkpointing=offload) for offload in (True, False))
    assert_near(*states, TOLERANCES[build], losses=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize(
    ("build", "several"), [(tiny_model, ["--multi_gpu"]), (tiny_sd3, ["--use_fsdp", "--fsdp_version=2"])]
)
def test_two_gpus_learn_the_same_embedding(build: Callable[[Path], Path], several: list[str], tmp_path: Path):
    """By `accelerate launch`, as a user starts it; the exit code counts."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines=1", "--dynamo_backend=no"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    model, embeddings = build(tmp_path / "model"), []
    for flags in (["--num_processes=1"], ["--num_processes=2", *several]):
        project = make_project(tmp_path / flags[0], model, runtime={"device": "cuda"}, progress_every=0)
        command = [*launcher, *flags, "--mixed_precision=no", "-m", "stages.train"]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("train: learned: ") == 1
        embeddings.append(load_file(project / "data/embedding/learned_embeds.safetensors"))
    torch.testing.assert_close(*embeddings, rtol=0, atol=1e-4)
