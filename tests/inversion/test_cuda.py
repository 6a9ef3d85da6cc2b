"""What only a GPU can show: the step captured as a graph, half precision that overflows, memory that runs out."""

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.common.runtime import Runtime
from stages.inversion import loop, optimizer
from stages.inversion.checkpoint import State
from stages.inversion.dataset import examples
from stages.inversion.params import Train
from stages.inversion.train import hasten, teach
from stages.models import device as machine
from stages.models.backbone import open_backbone
from stages.models.params import Model
from tests.inversion.tiny_training import BRISK, CONCEPT, Notebook, Solo

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def run(
    folder: Path,
    curated: Path,
    *,
    graph: bool = True,
    ahead: int = 1,
    micro_batch: int | None = None,
    checkpointing: bool | None = False,
    precision: str = "no",
    deterministic: bool = True,
    notebook: Notebook | None = None,
    **recipe: object,
) -> State:
    """=> the state after a training on the GPU."""
    runtime = Runtime(device="cuda", threads=1, deterministic=deterministic)
    device = machine.configure_torch(runtime)
    backbone = open_backbone(Model(base=str(folder)), CONCEPT, device, machine.DTYPES[precision])
    how, unmet = hasten(backbone, 100, runtime)
    assert unmet is None
    assert (how.graph, how.ahead) == (True, 1)
    speed = {"micro_batch": micro_batch, "gradient_checkpointing": checkpointing, "graph": graph, "ahead": ahead}
    return teach(
        backbone,
        CONCEPT,
        Train(**{**BRISK, "mixed_precision": precision, **recipe}),
        examples(curated),
        how=replace(how, **speed),
        crew=Solo(),
        found=None,
        around=(notebook or Notebook()).surroundings(),
    )


def near(one: State, other: State, tolerance: float = 1e-4) -> None:
    """AdamW takes steps of one size where a gradient is next to nothing: single numbers may differ, not their mean."""
    assert np.abs(one.vectors - other.vectors).mean() < tolerance
    np.testing.assert_allclose(one.losses, other.losses, rtol=10 * tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), [("no", 1e-4), ("fp16", 1e-3), ("bf16", 5e-3)])
def test_a_graph_computes_what_its_function_computes(folder: Path, curated: Path, precision: str, tolerance: float):
    near(*(run(folder, curated, graph=graph, precision=precision) for graph in (False, True)), tolerance)


def test_the_same_bytes_twice_in_every_micro_batch(folder: Path, curated: Path):
    for micro_batch in (1, 3, 4):
        states = [run(folder, curated, micro_batch=micro_batch, precision="fp16") for _ in range(2)]
        assert np.array_equal(states[0].vectors, states[1].vectors)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_a_step_ahead_changes_not_one_byte(
    folder: Path, curated: Path, precision: str, graph: bool, monkeypatch: pytest.MonkeyPatch
):
    """In half precision the scale doubles after every other step, until the gradients overflow."""
    monkeypatch.setattr(optimizer, "GROWTH_STEPS", 2)
    monkeypatch.setattr(optimizer, "NORMAL_RANGE", 2.0**40)
    options = {"precision": precision, "graph": graph, "snapshot_every": 2, "max_gradient_norm": 1.0, "steps": 40}
    waited, ran = (run(folder, curated, ahead=ahead, **options) for ahead in (0, 1))
    assert (waited.overflows > 0) == (precision == "fp16")
    for name, value in vars(waited).items():
        assert np.array_equal(np.asarray(getattr(ran, name)), np.asarray(value)), name


def test_nothing_waits_for_the_device_while_a_step_is_launched(
    folder: Path, curated: Path, monkeypatch: pytest.MonkeyPatch
):
    launch = loop._launch

    def watched(*inputs: object, **others: object) -> object:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return launch(*inputs, **others)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(loop, "_launch", watched)
    run(folder, curated, precision="fp16", micro_batch=3, max_gradient_norm=1.0, max_vector_norm=1.5)


def test_recomputed_activations_can_be_captured(folder: Path, curated: Path):
    near(*(run(folder, curated, checkpointing=checkpointing) for checkpointing in (False, True)))


def test_the_word_is_that_of_the_cpu(folder: Path, curated: Path):
    from tests.inversion.tiny_training import opened
    from tests.inversion.tiny_training import run as on_the_cpu

    near(run(folder, curated), on_the_cpu(opened(folder), curated))


def test_progress_is_drawn_beside_the_graph(folder: Path, curated: Path):
    notebook = Notebook()
    run(folder, curated, notebook=notebook, progress_every=3, precision="fp16")
    assert sorted(notebook.pictures) == [0, 3, 6]
    assert notebook.pictures[0].std() > 1


def test_when_memory_runs_out_the_micro_batch_is_halved_and_the_word_is_the_same(folder: Path, curated: Path):
    """Half of the memory that the whole batch takes."""
    recipe = {"batch_size": 4096, "steps": 2, "flip": False}
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    whole = run(folder, curated, **recipe)
    half = before + (torch.cuda.max_memory_reserved() - before) / 2
    gc.collect()  # a trainer and its graphs hold each other
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(half / torch.cuda.get_device_properties(0).total_memory)
        small = run(folder, curated, checkpointing=None, **recipe)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert small.micro_batch < 4096
    near(small, whole)
