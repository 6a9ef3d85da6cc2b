"""Rerun the committed params in a temporary folder, and compare every hash with dvc.lock.

The exit code is 0 if all outs have the hashes of dvc.lock, else 1; the last line names the first stage that differs.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from dvc.api import DVCFileSystem
from dvc_data.index import DataIndexError
from ruamel.yaml import YAML

from stages import UserError
from stages.common.stage import stage

EMBEDDING = "data/embedding/learned_embeds.safetensors"


@stage
def main() -> str:
    """Run `dvc repro` in a clone of the last commit, with an empty cache."""
    argparse.ArgumentParser(prog="python -m stages.comparison.verify", description=__doc__).parse_args()
    lock = _read_lock(_run("git", "show", "HEAD:dvc.lock"))
    with tempfile.TemporaryDirectory(prefix="oneword-verify-") as folder:
        clone = Path(folder) / "clone"
        _run("git", "clone", "-q", ".", str(clone))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache"]
        done = subprocess.run(command, cwd=clone, env=os.environ | {"PATH": path}, check=False)
        if done.returncode:
            raise UserError(f"`dvc repro` of the last commit ended with exit code {done.returncode}; see its messages.")
        rerun = _read_lock((clone / "dvc.lock").read_text(encoding="utf-8"))
        if name := first_difference(lock, rerun):
            locked = lock.get(name, {kind: {} for kind in ("deps", "params", "outs")})
            outs = [out for out, md5 in rerun[name]["outs"].items() if locked["outs"].get(out) != md5]
            causes = "; ".join(find_causes(locked, rerun[name], clone))
            raise UserError(f"stage {name} is the first that differs, in {', '.join(outs)}: {causes}.")
    count = sum(len(values["outs"]) for values in rerun.values())
    return f"{count} outs of {len(rerun)} stages have the hashes of dvc.lock"


def first_difference(lock: dict[str, dict], rerun: dict[str, dict]) -> str | None:
    """Return the first stage, in the order of the pipeline, whose outs do not have the hashes of `lock`."""
    return next((name for name in rerun if rerun[name]["outs"] != lock.get(name, {}).get("outs")), None)


def find_causes(locked: dict[str, dict], rerun: dict[str, dict], clone: Path) -> list[str]:
    """Return why a stage's outs differ: changed code or data, other library versions, or else this machine."""
    kinds = ("deps", "params")
    if changed := [name for kind in kinds for name in rerun[kind] if locked[kind].get(name) != rerun[kind][name]]:
        return [f"{', '.join(changed)} changed after dvc.lock was written; run `dvc repro` and commit dvc.lock"]
    causes = [f"{name} is {installed}, not {needed}" for name, needed, installed in _other_versions(clone)]
    causes += _differences_in_header(clone)
    machine = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
    return causes or [
        f"code, data, params and library versions are equal, so it is rounding on this machine ({machine}, "
        f"{torch.get_num_threads()} threads; see `runtime.threads` and docs/training.md)"
    ]


def _other_versions(clone: Path) -> list[tuple[str, str, str]]:
    """Return the libraries that are not those of versions.txt, so that hashes may differ: name, version there, here."""
    lines = (clone / "versions.txt").read_text(encoding="utf-8").splitlines()
    needed = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return [(name, there, here) for name, there in needed.items() if (here := _installed(name)) != there]


def _installed(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "not installed"


def _differences_in_header(clone: Path) -> list[str]:
    """Verify the embedding's header: return which fields differ from the last commit's, if its cache has it."""
    try:
        before, after = (
            _header(DVCFileSystem(".", rev="HEAD").read_bytes(EMBEDDING)),
            _header((clone / EMBEDDING).read_bytes()),
        )
    except (OSError, DataIndexError):
        return []
    return [f"{key} was {value} and is {after.get(key)}" for key, value in before.items() if after.get(key) != value]


def _header(content: bytes) -> dict[str, str]:
    """Return the metadata in the header of an embedding file to verify: its length as 8 bytes, then JSON."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__", {})


def _read_lock(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """Return the params, and the hashes of the deps and outs, of every stage in a dvc.lock to compare."""
    stages = YAML(typ="safe", pure=True).load(text)["stages"]
    return {
        name: {kind: {file["path"]: file["md5"] for file in values.get(kind, [])} for kind in ("deps", "outs")}
        | {"params": values.get("params", {}).get("params.yaml", {})}
        for name, values in stages.items()
    }


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
