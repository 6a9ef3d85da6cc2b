"""What the benchmarks share: the command line, the machine, a project folder, and processes of their own."""

import argparse
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
STARTER = ROOT / "starter"


def parse(doc: str, **defaults: object) -> argparse.Namespace:
    """Parse options of the types of their defaults; None means a text. The help shows `doc` and the defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        (one, count) = (default[0], "*") if isinstance(default, list) else (default, None)
        kind = str if one is None else type(one)
        parser.add_argument(f"--{name}", default=default, type=kind, nargs=count, help=f"default: {default}")
    return parser.parse_args()


def machine() -> str:
    """Return the processor, its usable cores, the GPU, and the versions of the libraries that decide speed."""
    import torch  # takes seconds, and every process of a benchmark imports this module

    lines, cores = Path("/proc/cpuinfo").read_text().splitlines(), len(os.sched_getaffinity(0))
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers"))
    return f"{[*names, platform.machine()][0]}, {cores} cores, {gpu}; Python {platform.python_version()}, {versions}"


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
    yaml.dump(params, folder / "params.yaml")
    return params


def environment(**variables: str) -> dict[str, str]:
    """Return an environment in which Python imports this repository from any folder, with `variables`."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])} | variables


def run(command: list[object], folder: Path = ROOT, **variables: str) -> str:
    """Run a Python module; return its output, or raise RuntimeError with its last message."""
    command, env = [sys.executable, "-m", *map(str, command)], environment(**variables)
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1][:200])
    return done.stdout


def run_row(script: str, args: argparse.Namespace, **values: object) -> str:
    """Run a benchmark for one of its rows, with its arguments and `values`; return its last line, or why it failed."""
    options = {name: value for name, value in (vars(args) | values).items() if not isinstance(value, list | None)}
    gpu = {"CUDA_VISIBLE_DEVICES": str(values["rank"])} if "rank" in values else {}
    try:
        return run([script, *(f"--{name}={value}" for name, value in options.items())], **gpu).splitlines()[-1]
    except RuntimeError as error:
        return f"failed: {error}"
