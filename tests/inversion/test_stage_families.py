"""The train stage with Stable Diffusion XL and 3: killed and on two processes it ends as an uninterrupted run."""

from pathlib import Path

import pytest
import torch

from stages.common.read_outs import read_embedding
from tests.inversion.stage_process import complete, kill_at, make_project, outs
from tests.inversion.test_stage import finish_ranks, start_ranks
from tests.tiny import WIDTH, WIDTH_G, WIDTH_T5, tiny_sd3, tiny_sdxl

FAMILIES = {
    "sdxl": (tiny_sdxl, {"clip_l": WIDTH, "clip_g": WIDTH_G}, "stable-diffusion-xl-v1-base"),
    "sd3": (tiny_sd3, {"clip_l": WIDTH, "clip_g": WIDTH_G, "t5xxl": WIDTH_T5}, "stable-diffusion-v3.5-medium"),
}
RECIPE = {"steps": 6, "snapshot_every": 4, "progress_every": 6, "search_steps": 1, "geometry": "sphere"}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_killed_and_shared_runs_end_as_an_uninterrupted_one(name: str, tmp_path: Path):
    build, widths, architecture = FAMILIES[name]
    model = build(tmp_path / "model")
    projects = [make_project(tmp_path / folder, model, **RECIPE) for folder in ("uninterrupted", "killed", "shared")]
    uninterrupted, killed, shared = projects
    complete(uninterrupted)
    vectors, metadata = read_embedding(uninterrupted / "data" / "embedding" / "learned_embeds.safetensors")
    assert {table: part.shape for table, part in vectors.items()} == {table: (1, w) for table, w in widths.items()}
    assert metadata["modelspec.architecture"] == f"{architecture}/textual-inversion"
    for step in (1, 4):
        kill_at(killed, step)
    complete(killed)
    assert outs(killed) == outs(uninterrupted)
    codes, output = finish_ranks(shared, start_ranks(shared, 2))
    assert codes == [0, 0], output
    other, _ = read_embedding(shared / "data" / "embedding" / "learned_embeds.safetensors")
    for table, part in vectors.items():
        torch.testing.assert_close(torch.from_numpy(other[table]), torch.from_numpy(part), rtol=0, atol=1e-5)
