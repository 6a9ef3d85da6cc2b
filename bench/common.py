"""What the benchmarks share: the command line, the machine, medians, and a project folder in which stages run."""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
STARTER = ROOT / "starter"


def parser(doc: str) -> argparse.ArgumentParser:
    """Return a parser whose help shows the module's docstring as it is."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def machine() -> str:
    """Return the processor, its usable cores, the GPU, and the versions of the libraries that decide speed."""
    lines, cores = Path("/proc/cpuinfo").read_text().splitlines(), len(os.sched_getaffinity(0))
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers"))
    return f"{[*names, platform.machine()][0]}, {cores} cores, {gpu}; Python {platform.python_version()}, {versions}"


def summary(values: list[float]) -> str:
    """Return mean, median and range."""
    middle = f"mean {statistics.mean(values):.4g}, median {statistics.median(values):.4g}"
    return f"{middle} ({min(values):.4g} to {max(values):.4g}, n={len(values)})"


def open_pipeline(device: str) -> StableDiffusionPipeline:
    """Load the built-in model in float32."""
    pipeline = StableDiffusionPipeline.from_pretrained(STARTER / "model", torch_dtype=torch.float32).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write_params(folder: Path, params: dict) -> None:
    """Write params.yaml of a project folder."""
    YAML(typ="safe", pure=True).dump(params, folder / "params.yaml")


def make_project(folder: Path, overrides: list[str], device: str = "cpu") -> dict:
    """Make `folder` a project of the default params with overrides such as "train.steps=300"; return the params."""
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["runtime"] = {"device": device, "trackers": []}
    for override in overrides:
        key, _, value = override.partition("=")
        section, name = key.split(".")
        params[section][name] = yaml.load(value)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "starter").unlink(missing_ok=True)
    (folder / "starter").symlink_to(STARTER)
    write_params(folder, params)
    return params


def environment(**variables: str) -> dict[str, str]:
    """Return an environment in which Python imports this repository from any folder, with `variables`."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])} | variables


def run_stage(folder: Path, stage: str) -> float:
    """Run a stage in a project folder, as DVC does; return its seconds, including the start of the process."""
    command, start = [sys.executable, "-m", f"stages.{stage}"], time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{stage} failed in {folder}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def run(name: str, command: list[object], **variables: str) -> str | None:
    """Run a Python module with environment variables; return its output, or print why it failed."""
    command = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, env=environment(**variables), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    print(f"| {name} | failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]} |", flush=True)
    return None
