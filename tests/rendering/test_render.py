"""The render stage: killed and resumed, with one more prompt, with another embedding."""

import io
import json
import os
import shutil
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
from stages.common.hashing import sha256
from stages.models.philox import normal
from tests.closure import ROOT
from tests.outs import write_curated, write_embedding
from tests.project import SMALL, write_params
from tests.tiny import WIDTH

PROMPTS = {"plain": "a {}", "night": "a {} at night"}
EMBEDDING = Path("data/embedding/learned_embeds.safetensors")


def configure(seed: int = 0, **changed: object) -> None:
    write_embedding(EMBEDDING, np.random.default_rng(seed).standard_normal((2, WIDTH)))
    section = SMALL["render"] | {"prompts": PROMPTS, "seeds": [0, 1]} | changed
    write_params(Path(), SMALL | {"render": section, "runtime": {"threads": 1, "trackers": []}})


@pytest.fixture(autouse=True)
def root(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, load_once: None) -> None:
    """A working directory with all that the stage reads."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "starter" / "model")
    write_curated(tmp_path / "data" / "curated")
    configure()


def run() -> dict[str, bytes]:
    render.main()
    outs = [Path("data/grid.png"), *Path("data/renders").rglob("*.*")]
    return {str(file): file.read_bytes() for file in outs}


def cached() -> dict[Path, int]:
    """Return when every finished render was written."""
    return {path: path.stat().st_mtime_ns for path in Path(".scratch/render").glob("*.png")}


def run_without_cache() -> dict[str, bytes]:
    for path in cached():
        path.unlink()
    return run()


def test_outs_are_the_same_bytes_with_a_full_damaged_and_empty_cache():
    first, times = run(), cached()
    rows = json.loads(first["data/renders/index.json"])["cells"]
    assert {f"data/renders/{row['file']}" for row in rows} | {"data/renders/index.json", "data/grid.png"} == set(first)
    assert (run(), cached()) == (first, times)
    truncated, empty, *_ = times
    truncated.write_bytes(truncated.read_bytes()[:60])
    empty.write_bytes(b"")
    assert run() == first == run_without_cache()


def test_render_equals_diffusers():
    run()
    reference = StableDiffusionPipeline.from_pretrained("starter/model", safety_checker=None)
    reference.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "guidance_scale": 2.0}
    options["latents"] = torch.from_numpy(normal(1, "render", 0, 0, (1, 4, 8, 8)))
    images = {"initializer": reference("a dragon at night", **options).images[0]}  # without the embedding
    reference.load_textual_inversion(str(EMBEDDING))
    images["word"] = reference("a <critter> at night", **options).images[0]
    for subject, image in images.items():
        ours = np.asarray(Image.open(f"data/renders/night/{subject}-1.png"), int)
        assert np.abs(np.asarray(image, int) - ours).max() <= 1


def test_new_prompt_renders_only_its_own_jobs():
    configure(seeds=[0, 1, 2])
    first, before = run(), cached()
    assert len(before) == 12
    configure(prompts={"new": "{} in the snow", **PROMPTS}, seeds=[0, 1, 2])
    changed = {name for name, content in run().items() if first.get(name) != content and "/new/" not in name}
    assert changed == {"data/grid.png", "data/renders/index.json"}
    assert before.items() <= cached().items()
    assert len(cached()) == len(before) + 6
    configure(seeds=[0, 1, 2])
    run()
    assert cached() == before, "renders that a run does not use are removed"


def test_more_subjects_render_only_their_own_jobs():
    write_embedding(Path("early.safetensors"), np.ones((1, WIDTH)))
    first, before = run(), cached()
    configure(subjects={"cat": "cat", "early": "early.safetensors"})
    outs = run()
    assert before.items() <= cached().items()
    assert len(cached()) == len(before) + 8
    assert {name for name in outs if first.get(name) == outs[name]} == {name for name in first if "-" in name}
    assert Image.open("data/renders/plain/cat-0.png").text["parameters"].startswith("a cat\n")
    configure(subjects={"early": "late.safetensors"})
    with pytest.raises(SystemExit, match=r"late.safetensors does not exist; correct `render.subjects.early`"):
        render.main()


def test_snapshots_are_columns_of_their_own():
    """The snapshot of step 20 is the learned embedding, so its renders are, too."""
    first, before = run(), cached()
    vectors = np.random.default_rng(0).standard_normal((2, WIDTH))
    for step in (10, 20, 30, 40):
        write_embedding(EMBEDDING.parent / f"snapshots/step-{step:06d}.safetensors", vectors * (1 + abs(step - 20)))
    assert run() == first, "by default, no snapshot is rendered"
    configure(snapshots=2)
    outs = run()
    index = json.loads(outs["data/renders/index.json"])
    assert index["subjects"]["step-000020"] == "step 20"
    assert index["embeddings"] == {
        "word": str(EMBEDDING),
        "step-000020": "data/embedding/snapshots/step-000020.safetensors",
        "step-000040": "data/embedding/snapshots/step-000040.safetensors",
    }
    assert before.items() <= cached().items()
    assert len(cached()) == len(before) + 8
    for name in ("plain", "night"):
        word, same, other = (
            np.asarray(Image.open(io.BytesIO(outs[f"data/renders/{name}/{subject}-1.png"])))
            for subject in ("word", "step-000020", "step-000040")
        )
        assert (same == word).all()
        assert (other != word).any()


def test_lists_of_steps_and_guidance_render_every_combination():
    first, before = run(), cached()
    configure(steps=[2, 3], guidance_scale=[1.0, 2.0])
    outs = run()
    assert before.items() <= cached().items()
    assert len(cached()) == 4 * len(before) == 32
    for name in ("plain/word-0", "night/initializer-1"):
        assert outs[f"data/renders/{name}-steps2-guidance2.png"] == first[f"data/renders/{name}.png"]
    rows = json.loads(outs["data/renders/index.json"])["cells"]
    assert {(row["steps"], row["guidance_scale"]) for row in rows} == {(2, 1), (2, 2), (3, 1), (3, 2)}
    assert len({outs[f"data/renders/{row['file']}"] for row in rows}) == 32
    assert Image.open("data/grid.png").height > 1.5 * Image.open(io.BytesIO(first["data/grid.png"])).height


def test_png_says_how_it_was_rendered():
    configure(negative_prompt="red, blue")
    run()
    texts = {subject: Image.open(f"data/renders/night/{subject}-1.png").text for subject in ("word", "initializer")}
    common = (
        "Negative prompt: red, blue\nSteps: 2, Sampler: DDIM, CFG scale: 2.0, Seed: 1, Size: 32x32, "
        "Model: starter/model, Precision: fp32"
    )
    embedding = f'TI hashes: "<critter>: {sha256(EMBEDDING)[:12]}"'
    assert texts["word"] == {"parameters": f"a <critter> at night\n{common}, {embedding}"}
    assert texts["initializer"] == {"parameters": f"a dragon at night\n{common}"}


@pytest.mark.slow
def test_processes_share_the_jobs():
    expected = run()
    for path in [*cached(), *Path("data/renders").rglob("*.png")]:
        path.unlink()
    options = "--cpu --num_machines 1 --num_processes 2 --mixed_precision no --dynamo_backend no -m stages.render"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "accelerate.commands.launch", *options.split()]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    outs = [Path("data/grid.png"), *Path("data/renders").rglob("*.*")]
    assert {str(file): file.read_bytes() for file in outs} == expected


def test_new_embedding_renders_only_the_placeholder_token():
    first, before = run(), cached()
    configure(seed=1)
    unchanged = {name for name, content in run().items() if first[name] == content}
    assert unchanged == {name for name in first if "initializer-" in name or name.endswith("index.json")}
    assert len(cached().items() & before.items()) == 4


def test_text_without_the_placeholder_token_has_the_same_bytes_with_any_embedding():
    first = run()
    configure(seed=1)
    second = run_without_cache()
    assert {name for name in first if first[name] == second[name] and name.endswith(".png")} == {
        name for name in first if "initializer-" in name
    }


@pytest.mark.parametrize("changed", [{"prompts": {"x": "a {} and <CRITTER>"}}, {"negative_prompt": "<critter>"}])
def test_new_embedding_renders_every_text_with_the_placeholder_token(changed: dict):
    configure(**changed)
    run()
    configure(seed=1, **changed)
    assert run() == run_without_cache()


@pytest.mark.slow
def test_killed_run_continues_to_the_same_bytes():
    configure(steps=12, seeds=[0, 1, 2])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with Path("log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "stages.render"], env=environment, stderr=log)
        while len(cached()) < 3 and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    log = Path("log").read_text()
    assert "torchvision" not in log, "the import warns of a library that is not needed"
    assert "\r" not in log, "a log has lines"
    assert log.startswith("render: ")
    finished = cached()
    assert 3 <= len(finished) < 12
    assert not Path("data/renders").exists()
    resumed = run()
    assert finished.items() <= cached().items()
    assert run_without_cache() == resumed


def test_missing_inputs_are_reported_in_one_line():
    for missing, message in (
        (EMBEDDING, rf"{EMBEDDING} cannot be read .* `dvc repro train`"),
        ("data/curated/index.json", r"data/curated/index.json cannot be read .* `dvc repro curate`"),
    ):
        Path(missing).unlink()
        with pytest.raises(SystemExit, match=f"render: {message}"):
            render.main()
    configure(scheduler="ddmi")
    with pytest.raises(SystemExit, match=r"`render.scheduler` is 'ddmi'.*'ddim'"):
        render.main()
