"""Measure the filter: python -m bench.data. Prints images per second beside a loop that only decodes them, memory, and
precision and recall on drawn classes. The timed images are drawn, 256 px, half PNG and half JPEG: --counts of them, of
which the median of --repeat runs, in turns, is printed.
"""

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

from bench.common import machine, parse
from stages.images.quality.manifest import build_manifest
from stages.images.quality.params import Filter
from starter.world.dataset import build, truth
from starter.world.rendering import render, sample_spec

DISTINCT = 500  # images that are drawn; the others are copies with another number after their last byte
# The thresholds were chosen on the first twelve classes; the last twelve were not looked at.
CLASSES = """Duskhorn 0, Duskhorn 3, Emberwing 0, Emberwing 4, Frostpaw 2, Glowtail 0, Mossback 2, Mossback 5,
Nightray 3, Sunquill 1, Tidefin 0, Tidefin 1, Briarling 1, Cinderpuff 0, Duskhorn 14, Emberwing 11, Frostpaw 16,
Glowtail 15, Mossback 13, Nightray 18, Pebblewing 3, Stormcub 2, Sunquill 17, Tidefin 12"""


def decode(raw: Path, workers: int) -> None:
    """Decode every image, and do nothing else."""
    for path in (raw / "Thing").iterdir():
        Image.open(path).convert("RGB")


def filter_images(raw: Path, workers: int) -> None:
    build_manifest(raw, Filter(**{"class": "Thing"}), workers)


def main() -> None:
    args = parse(__doc__, counts=[1000, 10_000], repeat=3, classes=24)
    print(f"{machine()}\n\n| images | program | workers | images/s | peak MiB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        raw, programs = Path(temporary) / "raw", [(decode, 1), (filter_images, 1), (filter_images, 2)]
        for count in sorted(args.counts):
            draw(raw / "Thing", count)
            results = [[measure(program, raw, workers) for program, workers in programs] for _ in range(args.repeat)]
            for (program, workers), runs in zip(programs, zip(*results, strict=True), strict=True):
                rate, peak = count / statistics.median(seconds for seconds, _ in runs), max(peak for _, peak in runs)
                print(f"| {count:,} | {program.__name__} | {workers} | {rate:.0f} | {peak:.0f} |", flush=True)
        measure_precision(Path(temporary) / "classes", CLASSES.split(",")[: args.classes])


def draw(folder: Path, count: int) -> None:
    """Fill `folder` up to `count` different files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(list(folder.iterdir())), count):
        path, template = (folder / f"{number:06d}.{'png' if i % 2 else 'jpg'}" for number in (i, i % DISTINCT))
        if i < DISTINCT:
            render(sample_spec(i), 256).save(path, **({} if i % 2 else {"quality": 92}))
        else:
            path.write_bytes(template.read_bytes() + b"%06d" % i)


def measure(program: Callable, raw: Path, workers: int) -> tuple[float, float]:
    """Run a program in a new process; return its seconds and its peak memory without the workers, in MiB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, program, raw, workers).result()


def _run(program: Callable, raw: Path, workers: int) -> tuple[float, float]:
    start = time.perf_counter()
    program(raw, workers)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_precision(folder: Path, classes: list[str]) -> None:
    """Print precision and recall of the rejected files; 23 of the 52 files of a class are unusable."""
    print("\n| class | seed | precision | recall |\n|---|---|---|---|")
    counts = []
    for name, seed in map(str.split, classes):
        build(folder / seed, name, int(seed))
        unusable = {file for file, true in truth(name, int(seed)).items() if not true.usable}
        manifest, _ = build_manifest(folder / seed, Filter(**{"class": name}), 1)
        rejected = {Path(row.file).name for row in manifest.itertuples() if row.verdict == "reject"}
        counts.append((len(rejected & unusable), len(rejected), len(unusable)))
        print(f"| {name} | {seed} | {counts[-1][0] / counts[-1][1]:.3f} | {counts[-1][0] / counts[-1][2]:.3f} |")
    correct, rejected, unusable = map(sum, zip(*counts, strict=True))
    print(f"| all | | {correct / rejected:.3f} | {correct / unusable:.3f} |")


if __name__ == "__main__":
    main()
