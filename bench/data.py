"""The data stages in figures: python -m bench.data [--counts 1000 10000] [--repeat 3] [--archive] [--repro]

Filter: pictures a second by 1 and 2 processes and the most memory, on drawn pictures of 256 px, beside a plain loop of
Pillow decodes (the floor: open, decode, RGB); and the processor's time of both, of all their processes from their
start on. --archive: a set of ten thousand files through a Kaggle of our own, cut at five random places. --repro: `dvc
repro` with nothing to do on as many files, beside DVC's own least: one stage that copies one file, and `dvc version`,
which does no more than start. Prints tables for docs/data.md.
"""

import argparse
import contextlib
import hashlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
SIDE = 256
DRAWN = 500  # different pictures; more have a number behind their last byte, so that no file is another

MEASURE = """
import os, sys, time
from pathlib import Path
def floor(folder):
    from PIL import Image
    for path in folder.iterdir():
        with Image.open(path) as image:
            image.convert("RGB")
def sift(raw, workers):
    from stages.images.quality.params import Filter
    from stages.images.quality.sift import sift
    sift(raw, Filter(**{"class": "Thing"}), workers, raw.parent / "manifest.csv", raw.parent / "features.npy")
def main():
    what, raw, workers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    began = time.perf_counter()
    floor(raw / "Thing") if what == "floor" else sift(raw, workers)
    took, worked = time.perf_counter() - began, sum(os.times()[:2])
    import psutil  # its own import is nobody's
    worked += sum(sum(child.cpu_times()[:4]) for child in psutil.Process().children())
    print(took, worked)
if __name__ == "__main__":
    main()
"""


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="*", default=[1000, 10_000], help="pictures (50000 takes minutes)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--archive", action="store_true")
    parser.add_argument("--repro", type=int, nargs="?", const=10_000, help="files")
    asked = parser.parse_args()
    print(f"{_machine()}; Python {platform.python_version()}, Pillow {Image.__version__}; median of {asked.repeat}\n")
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        if asked.counts:
            _filter(home, asked.counts, asked.repeat)
        if asked.archive:
            _archive(home / "archive")
        if asked.repro:
            _repro(home / "repro", asked.repro, asked.repeat)


def _filter(home: Path, counts: list[int], repeat: int) -> None:
    script = home / "measure.py"
    script.write_text(MEASURE)
    raw = home / "raw"
    print(
        "| pictures | floor, a second | 1 process, a second | CPU to floor | 2 processes, a second | CPU to floor "
        "| most memory, MiB |"
    )
    print("|---|---|---|---|---|---|---|")
    for count in sorted(counts):
        draw(raw / "Thing", count)
        ways = {("floor", 1): [], ("filter", 1): [], ("filter", 2): []}
        for _ in range(repeat):  # in turns, so that a busy minute is everyone's
            for (what, workers), runs in ways.items():
                runs.append(_measure(script, what, raw, workers))
        floor, one, two = ways.values()
        rate = [count / statistics.median(took for took, *_ in runs) for runs in ways.values()]
        ratio = [statistics.median(b[1] / a[1] for a, b in zip(floor, runs, strict=True)) for runs in (one, two)]
        most = max(memory for *_, memory in two)
        print(
            f"| {count:,} | {rate[0]:.0f} | {rate[1]:.0f} | {ratio[0]:.2f} | {rate[2]:.0f} | {ratio[1]:.2f} "
            f"| {most:.0f} |",
            flush=True,
        )
    print()


def draw(folder: Path, count: int) -> None:
    """=> `count` different pictures of 256 px, one half PNG and one half JPEG; those there are stay."""
    folder.mkdir(parents=True, exist_ok=True)
    have = len(list(folder.iterdir()))
    first, rest = range(have, min(count, DRAWN)), range(max(have, DRAWN), count)
    with ProcessPoolExecutor() as pool:
        list(pool.map(_draw, [folder] * len(first), first, chunksize=20))
        list(pool.map(_vary, [folder] * len(rest), rest, chunksize=100))


def _draw(folder: Path, number: int) -> None:
    from starter.world.rendering import render, sample_spec

    _save(render(sample_spec(number), SIDE), folder, number)


def _vary(folder: Path, number: int) -> None:
    _path(folder, number).write_bytes(_path(folder, number % DRAWN).read_bytes() + b"%06d" % number)


def _save(image: Image.Image, folder: Path, number: int) -> None:
    image.save(_path(folder, number), **({} if number % 2 else {"quality": 92}))


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.{'png' if number % 2 else 'jpg'}"


def _measure(script: Path, what: str, raw: Path, workers: int) -> tuple[float, float, float]:
    """=> seconds, CPU seconds, and the most MiB, of it and all that it started (what they share counts for each)."""
    command = [sys.executable, str(script), what, str(raw), str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    most = 0
    with psutil.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        while running.poll() is None:
            with contextlib.suppress(psutil.Error):
                family = [running, *running.children(recursive=True)]
                most = max(most, sum(one.memory_info().rss for one in family))
            time.sleep(0.1)
        took, worked = (float(word) for word in running.stdout.read().split())
    return took, worked, most / 2**20


def _archive(home: Path) -> None:
    """The world's classes, ten thousand files in the layout of the story's set, cut at five random places."""
    from stages.images.sources.fetch import fetch
    from stages.images.sources.params import Dataset
    from tests.images.archives import drawn
    from tests.images.loopback import Kaggle, serve

    content = drawn([f"Class{i:02d}" for i in range(97)], home / "drawn")
    cuts = np.random.default_rng().integers(1, len(content) // 6, 5).tolist()
    (home / "home").mkdir()
    (home / "scratch").mkdir()
    section = Dataset(source="kaggle", kaggle={"dataset": "someone/creatures"})
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        kaggle = stack.enter_context(serve(Kaggle({1: content}, cuts=list(cuts)), patch, str(home / "home")))
        began = time.perf_counter()
        receipt = fetch(section, home / "raw", home / "scratch")
        took = time.perf_counter() - began
    same = receipt["sha256"] == hashlib.sha256(content).hexdigest()
    files = receipt["files"] + sum(receipt["left_out"].values())
    print(
        f"archive: {files:,} files, {len(content) / 2**20:.0f} MiB, {5 - len(kaggle.cuts)} cuts, after {cuts} bytes, "
        f"sha256 {'equal' if same else 'DIFFERENT'}, {receipt['files']:,} kept, {took:.1f} s\n"
    )


def _repro(home: Path, count: int, repeat: int) -> None:
    """`dvc repro` with nothing to do, on a folder of `count` files, beside what DVC needs to start."""
    shutil.copytree(ROOT / "stages", home / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "starter").mkdir()
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    kept = {name: stages[name] for name in ("download", "filter", "curate")}
    for stage in kept.values():
        stage["deps"] = [dep for dep in stage["deps"] if not dep.startswith("starter")]
    draw(home / "pictures" / "Thing", count)
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params |= {"dataset": {"source": "folder", "path": "pictures"}, "filter": {"class": "Thing"}}
    for name, content in {"dvc.yaml": {"stages": kept}, "params.yaml": params}.items():
        with (home / name).open("w") as file:
            YAML(typ="safe").dump(content, file)
    _dvc(home, "init", "--no-scm", "-q")
    first = _dvc(home, "repro", "-q")
    least = home.parent / "least"
    least.mkdir()
    (least / "in").write_text("one")
    with (least / "dvc.yaml").open("w") as file:
        YAML(typ="safe").dump({"stages": {"copy": {"cmd": "cp in out", "deps": ["in"], "outs": ["out"]}}}, file)
    _dvc(least, "init", "--no-scm", "-q")
    _dvc(least, "repro", "-q")
    ways = {(home, ("repro", "-q")): [], (least, ("repro", "-q")): [], (home, ("version",)): []}
    for _ in range(repeat):
        for (folder, arguments), runs in ways.items():
            runs.append(_dvc(folder, *arguments))
    print("| files | first run, s | nothing to do, s | one stage that copies one file, s | `dvc version`, s |")
    print("|---|---|---|---|---|")
    middle = " | ".join(f"{statistics.median(runs):.2f}" for runs in ways.values())
    print(f"| {count:,} | {first:.1f} | {middle} |\n")


def _dvc(home: Path, *arguments: str) -> float:
    """=> seconds."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    began = time.perf_counter()
    subprocess.run(
        ["dvc", *arguments],
        cwd=home,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def _machine() -> str:
    """=> the processor and its cores, as the system names them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    main()
