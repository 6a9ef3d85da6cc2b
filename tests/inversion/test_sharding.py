"""FSDP2 shards the denoiser and T5 over two processes, which learn what one process learns."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from stages import UserError
from stages.common.runtime import Runtime
from stages.inversion.dataset import curated_images
from stages.inversion.params import Train
from stages.inversion.train import train
from stages.models.acceleration import apply_kernels
from stages.models.device import DTYPES
from stages.models.loading import open_backbone
from stages.models.params import Model
from stages.models.sharding import shard, sharding_plugin
from tests.closure import ROOT
from tests.inversion.stage_process import FORKS, complete, make_project, outs
from tests.inversion.test_stage import port
from tests.inversion.tiny_training import CONCEPT, RECIPE, RecordingCallbacks, draw_curated
from tests.tiny import tiny_sd3, tiny_sdxl

FSDP = {"ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
# Three held-out images at five timesteps are an odd number of samples for two processes.
OPTIONS = RECIPE | {
    "steps": 3,
    "progress_every": 0,
    "geometry": "sphere",
    "validation_timesteps": 5,
    "search_steps": 1,
    "search_starts": 2,
    "search_words": 2,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sharding")
    return {"sdxl": tiny_sdxl(folder / "sdxl"), "sd3": tiny_sd3(folder / "sd3")}


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_curated(tmp_path_factory.mktemp("sharding") / "curated", holdout=3)


def train_here(model: Model, curated: Path, precision: str, runtime: Runtime, file: Path) -> None:
    torch.set_num_threads(1)
    accelerator, plugin = Accelerator(cpu=True), sharding_plugin(model, runtime)
    prepare = partial(shard, device=torch.device("cpu"), plugin=plugin)
    backbone = open_backbone(model, CONCEPT, "cpu", DTYPES[precision], prepare=prepare)
    assert apply_kernels(backbone, Runtime(), 10**6) == []
    for module in (backbone.denoiser, *backbone.text_encoders):
        is_whole = plugin is None or isinstance(module, CLIPTextModel | CLIPTextModelWithProjection)
        for name, parameter in module.named_parameters():
            assert isinstance(parameter, DTensor) is not (is_whole or "shared" in name or "embed_tokens" in name), name
            if isinstance(parameter, DTensor):
                assert len(parameter.to_local()) == len(parameter) // 2  # all lengths are even here
    recipe, callbacks = Train(**OPTIONS, mixed_precision=precision), RecordingCallbacks()
    images, options = curated_images(curated), {"accelerator": accelerator, "callbacks": callbacks}
    state = train(backbone, CONCEPT, recipe, runtime, images, **options).state
    curve = torch.tensor([relative.value for relative in state.curve()])
    save_file({"vectors": state.vectors, "losses": torch.tensor(state.train_losses), "curve": curve}, file)


def run_rank(world: dict[str, str], *inputs: object) -> None:
    os.environ.update(FSDP | world)
    train_here(*inputs)
    torch.distributed.destroy_process_group()


STORED = {"micro_batch": 2, "gradient_checkpointing": False}
CASES = [("sd3", "no", {}), ("sd3", "fp16", STORED), ("sdxl", "no", STORED)]  # T5 in fp16 has weights of two precisions


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_that_share_a_model_learn_the_same(
    case: tuple[str, str, dict], models: dict[str, Path], curated: Path, tmp_path: Path
):
    name, precision, runtime = case
    inputs = Model(base=str(models[name])), curated, precision, Runtime(**runtime)
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port()}
    files = [tmp_path / f"rank{rank}" for rank in (0, 1)]
    ranks = [
        FORKS.Process(target=run_rank, args=(world | {"RANK": str(i), "LOCAL_RANK": str(i)}, *inputs, file))
        for i, file in enumerate(files)
    ]
    for rank in ranks:
        rank.start()
    train_here(*inputs, tmp_path / "alone")
    for rank in ranks:
        rank.join(90)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    alone, tolerance = load_file(tmp_path / "alone"), 1e-5 if precision == "no" else 1e-3
    for file in files:
        for key, tensor in load_file(file).items():
            torch.testing.assert_close(tensor, alone[key], rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_documented_command_trains_on_two_processes(models: dict[str, Path], tmp_path: Path):
    """A batch that they cannot share equally is refused; the message counts them."""
    page = (ROOT / "docs" / "larger-models.md").read_text()
    (command,) = re.findall(r"^accelerate (launch --use_fsdp .*)$", page, re.MULTILINE)
    arguments = [sys.executable, "-m", "accelerate.commands.accelerate_cli", *command.split()]
    arguments[4:4] = [f"--main_process_port={port()}"]
    environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path)}
    environment |= {"ACCELERATE_USE_CPU": "true"}
    alone = make_project(tmp_path / "alone", models["sd3"], **OPTIONS)
    complete(alone)
    for batch_size, code in ((3, 1), (4, 0)):
        project = make_project(tmp_path / "shared", models["sd3"], **OPTIONS | {"batch_size": batch_size})
        done = subprocess.run(
            arguments, cwd=project, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        refused = "2 processes that share a model cannot share a batch of 3 equally; launch" in done.stderr
        assert refused is bool(code)
    assert done.stdout.count("train: learned: ") == 1
    assert outs(project).keys() == outs(alone).keys()
    one, other = (load_file(p / "data" / "embedding" / "learned_embeds.safetensors") for p in (alone, project))
    for table in one:
        torch.testing.assert_close(other[table], one[table], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("environment", "changed", "message"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, r"^DeepSpeed is not supported; use `accelerate launch --use_fsdp"),
        ({"FSDP_VERSION": "1"}, {}, r"^FSDP of version 1 is not supported; add `--fsdp_version 2`"),
        ({}, {"storage_dtype": "fp8"}, r"^`model.storage_dtype` and FSDP exclude each other; set it to null"),
        (
            {},
            {"offload": True},
            r"^`runtime.offload: true` and FSDP exclude each other; add `--fsdp_offload",
        ),
    ],
    ids=str,
)
def test_settings_without_a_meaning_are_refused(
    environment: dict, changed: dict, message: str, monkeypatch: pytest.MonkeyPatch
):
    params = Model(storage_dtype=changed.get("storage_dtype")), Runtime(offload=changed.get("offload", "auto"))
    assert sharding_plugin(*params) is None
    for name, value in (FSDP | environment).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        sharding_plugin(*params)
