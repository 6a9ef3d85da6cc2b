"""A project in a temporary folder: the code, a tiny model, drawn images, real git and real DVC."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from ruamel.yaml import YAML

from tests.closure import ROOT
from tests.tiny import tiny_clip, tiny_model

NO_NETWORK = Path(__file__).parent / "no_network"  # Python runs the sitecustomize.py on its path

SMALL = {
    "dataset": {"source": "folder", "path": "images"},
    "filter": {"class": "Critter", "min_side_px": 24},
    "curate": {"count": 3, "holdout": 2, "resolution": 64},
    "model": {"base": "starter/model"},
    "concept": {"placeholder_token": "<critter>", "initializer_token": "dragon"},
    "train": {"steps": 3, "batch_size": 2, "learning_rate": 1e-2},
    "render": {"prompts": {"plain": "a {}"}, "seeds": [0], "steps": 2, "guidance_scale": 2.0},
    "evaluate": {"clip": "starter/clip"},
    "report": {"title": None},
    "runtime": {"trackers": [], "workers": 1, "threads": 1},
}


def create(folder: Path, build: Callable[[Path], Path] = tiny_model) -> Path:
    """Create a git repository with the code, small params and eight images of a class, in which nothing has run.

    `build` saves the base model.
    """
    ignored = shutil.ignore_patterns("__pycache__", "model", "clip", "*.safetensors")
    for name in ("stages", "starter"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("dvc.yaml", "versions.txt", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / ".gitignore", folder / "data" / ".gitignore")
    build(folder / "starter" / "model")
    tiny_clip(folder / "starter" / "clip")
    draw_images(folder / "images" / "Critter", 8)
    write_params(folder, SMALL)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "begin")
    return folder


def draw_images(folder: Path, count: int) -> None:
    """Draw `count` different images of 96 px: an ellipse and a rectangle on white."""
    folder.mkdir(parents=True)
    for i in range(count):
        random = np.random.default_rng(i)
        image = Image.new("RGB", (96, 96), "white")
        pen = ImageDraw.Draw(image)
        x, y = random.integers(10, 40, 2).tolist()
        pen.ellipse(
            [x, y, x + 30 + 3 * i, y + 45 - 3 * i], fill=tuple(random.integers(0, 200, 3).tolist()), outline="black"
        )
        pen.rectangle([5 + 9 * i, 70, 30 + 7 * i, 90 - 2 * i], fill=tuple(random.integers(0, 255, 3).tolist()))
        image.save(folder / f"{i}.png")


def write_params(folder: Path, values: dict) -> None:
    """Write params.yaml."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(values, file)


def change(folder: Path, **sections: dict) -> None:
    """Write params.yaml as SMALL, with the given fields changed."""
    write_params(folder, {name: {**SMALL.get(name, {}), **sections.get(name, {})} for name in {**SMALL, **sections}})


def run(folder: Path, *command: str, ok: bool = True) -> str:
    """Run `command` in `folder` with this Python's tools and without network; return its output."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(NO_NETWORK)])
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ok, f"{command} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def repro(folder: Path, *arguments: str) -> list[str]:
    """Run `dvc repro`; return the stages that ran, in order (without those restored from the run-cache)."""
    return re.findall(r"Running stage '(\w+)'", run(folder, "dvc", "repro", *arguments))


def git(folder: Path, *arguments: str) -> str:
    """Run git; return its output."""
    return run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments)


def commit(folder: Path, message: str) -> None:
    """Commit everything that git does not ignore."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every out in dvc.lock."""
    lock = YAML(typ="safe").load((folder / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def content(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of every file in a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}
