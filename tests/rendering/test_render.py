"""The stage as it runs: whole folders, killed and begun again, one more prompt, another word."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from stages import render
from stages.inversion import word
from stages.models.noise import normal
from tests.closure import ROOT
from tests.inversion.world import draw
from tests.project import SMALL, write_params
from tests.tiny import WIDTH, tiny_model

PROMPTS = {"plain": "a {}", "night": "a {} at night"}


def write_word(home: Path, seed: int) -> None:
    """=> a word of two vectors where the stage looks for it."""
    vectors = np.random.default_rng(seed).standard_normal((2, WIDTH))
    path = home / "data" / "embedding" / "learned_embeds.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(word.dump(vectors, "<critter>", {"step": seed}))


def configure(home: Path, **changed: object) -> None:
    """=> params.yaml with `render` changed."""
    render_section = SMALL["render"] | {"prompts": PROMPTS, "seeds": [0, 1]} | changed
    write_params(home, SMALL | {"render": render_section, "runtime": {"threads": 1, "trackers": []}})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `render` has all that it needs."""
    tiny_model(tmp_path / "starter" / "model")
    draw(tmp_path / "data" / "curated")
    write_word(tmp_path, 0)
    configure(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(home: Path) -> dict[str, bytes]:
    """=> every out of the stage."""
    files = [home / "data" / "grid.png", *(home / "data" / "renders").rglob("*")]
    return {str(file.relative_to(home)): file.read_bytes() for file in files if file.is_file()}


def drawn(home: Path) -> dict[str, int]:
    """=> the finished cells in the scratch folder, each with when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (home / ".scratch" / "render").glob("*.png")}


def forget(home: Path) -> None:
    """No cell that was drawn before is there any more."""
    for path in (home / ".scratch" / "render").glob("*.png"):
        path.unlink()


def test_the_outs_are_the_same_bytes_wherever_and_however_they_came(home: Path, capsys: pytest.CaptureFixture):
    render.main()
    assert "8 pictures in data/renders; look at data/grid.png" in capsys.readouterr().out
    first, cells = made(home), drawn(home)
    rows = json.loads(first["data/renders/index.json"])["cells"]
    assert {f"data/renders/{row['file']}" for row in rows} | {"data/renders/index.json", "data/grid.png"} == set(first)
    render.main()
    assert (made(home), drawn(home)) == (first, cells)
    forget(home)
    render.main()
    assert made(home) == first


def test_one_more_prompt_draws_one_more_row(home: Path):
    render.main()
    before, first = drawn(home), made(home)
    configure(home, prompts={"new": "{} in the snow", **PROMPTS})
    render.main()
    after = drawn(home)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 4
    assert all(made(home)[name] == content for name, content in first.items() if "/word-" in name)
    configure(home)
    render.main()
    assert drawn(home) == before, "cells that nobody asked for are put away"


def test_another_word_draws_its_own_cells_only(home: Path):
    render.main()
    before, first = drawn(home), made(home)
    write_word(home, 1)
    render.main()
    assert len(drawn(home).items() & before.items()) == 4
    same = {name for name, content in made(home).items() if first[name] == content}
    assert same == {name for name in first if "initializer-" in name or name.endswith("index.json")}


@pytest.mark.parametrize(
    "changed",
    [{"prompts": {"plain": "a {}", "both": "a {} and <CRITTER>"}}, {"negative_prompt": "<critter>"}],
    ids=["prompt", "negative prompt"],
)
def test_a_job_whose_text_contains_the_placeholder_depends_on_the_embedding(home: Path, changed: dict):
    configure(home, **changed)
    render.main()
    write_word(home, 1)
    render.main()
    cached = made(home)
    forget(home)
    render.main()
    assert made(home) == cached


def test_a_damaged_cell_is_drawn_again(home: Path):
    render.main()
    first = made(home)
    cells = sorted((home / ".scratch" / "render").glob("*.png"))
    cells[0].write_bytes(cells[0].read_bytes()[:60])
    cells[1].write_bytes(b"")
    render.main()
    assert made(home) == first


def test_killed_anywhere_it_goes_on_to_the_same_bytes(home: Path):
    configure(home, steps=12, seeds=[0, 1, 2])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "stages.render"], env=environment, stderr=subprocess.DEVNULL)
    while len(drawn(home)) < 3 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = drawn(home)
    assert 3 <= len(done) < 12
    assert not (home / "data" / "renders").exists()
    render.main()
    assert done.items() <= drawn(home).items()
    resumed = made(home)
    forget(home)
    render.main()
    assert made(home) == resumed


def test_the_learnt_file_draws_the_same_picture_in_the_plain_pipeline(home: Path):
    render.main()
    plain = StableDiffusionPipeline.from_pretrained(home / "starter" / "model", safety_checker=None)
    plain.set_progress_bar_config(disable=True)
    plain.load_textual_inversion(str(home / "data" / "embedding" / "learned_embeds.safetensors"))
    latents = torch.from_numpy(normal(1, "render", 0, 0, (1, 4, 8, 8)))
    image = plain("a <critter> at night", latents=latents, num_inference_steps=2, guidance_scale=2.0).images[0]
    ours = np.asarray(Image.open(home / "data" / "renders" / "night" / "word-1.png"), int)
    assert np.abs(np.asarray(image, int) - ours).max() <= 1


def test_what_is_missing_is_one_sentence(home: Path):
    (home / "data" / "curated" / "index.json").rename(home / "index.json")
    with pytest.raises(SystemExit, match=r"render: data/curated/index.json cannot be read .* `dvc repro curate`"):
        render.main()
    (home / "data" / "embedding" / "learned_embeds.safetensors").unlink()
    with pytest.raises(
        SystemExit, match=r"render: data/embedding/learned_embeds.safetensors is not here; run `dvc repro train`"
    ):
        render.main()
    configure(home, scheduler="ddmi")
    with pytest.raises(SystemExit, match=r"`render.scheduler` is 'ddmi'.*'ddim'"):
        render.main()
