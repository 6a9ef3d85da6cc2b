"""Time and memory of the filter beside a loop that only decodes, and precision and recall on drawn classes.

The images are drawn, 256 px, half PNG and half JPEG. CPU seconds are those of all processes, memory is their sum.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.common import environment, machine, parser
from stages.images.quality.manifest import build_manifest
from stages.images.quality.params import Filter
from starter.world.dataset import build, truth
from starter.world.rendering import render, sample_spec

DISTINCT = 500  # images that are drawn; the others are copies with another number after their last byte
CLASSES = (
    "Duskhorn 0, Duskhorn 3, Emberwing 0, Emberwing 4, Frostpaw 2, Glowtail 0, Mossback 2, Mossback 5, Nightray 3, "
    "Sunquill 1, Tidefin 0, Tidefin 1, Briarling 1, Cinderpuff 0, Duskhorn 14, Emberwing 11, Frostpaw 16, Glowtail 15, "
    "Mossback 13, Nightray 18, Pebblewing 3, Stormcub 2, Sunquill 17, Tidefin 12"
).split(", ")  # fmt: skip
PROGRAMS = {
    "decode only": "from PIL import Image; [Image.open(p).convert('RGB') for p in (raw / 'Thing').iterdir()]",
    "filter": (
        "from stages.images.quality.manifest import build_manifest; "
        "from stages.images.quality.params import Filter; "
        "build_manifest(raw, Filter(**{'class': 'Thing'}), workers)"
    ),
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--counts", type=int, nargs="*", default=[1000, 10_000], help="images of the timed classes")
    options.add_argument("--repeat", type=int, default=3, help="runs, in turns, of which the median is printed")
    options.add_argument("--classes", type=int, default=len(CLASSES), help="drawn classes for precision and recall")
    asked = options.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        if asked.counts:
            time_filter(Path(temporary), asked.counts, asked.repeat)
        if asked.classes:
            measure_precision(Path(temporary) / "classes", CLASSES[: asked.classes])


def time_filter(folder: Path, counts: list[int], repeat: int) -> None:
    """Print images per second, CPU time relative to decoding, and the largest memory."""
    print("\n| images | program | workers | images/s | CPU time / decode only | peak MiB |\n|---|---|---|---|---|---|")
    runs = [("decode only", 1), ("filter", 1), ("filter", 2)]
    for count in sorted(counts):
        draw(folder / "raw" / "Thing", count)
        results = [[run(name, folder / "raw", workers) for name, workers in runs] for _ in range(repeat)]
        for i, (name, workers) in enumerate(runs):
            rate = count / statistics.median(result[i][0] for result in results)
            ratio = statistics.median(result[i][1] / result[0][1] for result in results)
            peak = max(result[i][2] for result in results)
            print(f"| {count:,} | {name} | {workers} | {rate:.0f} | {ratio:.2f} | {peak:.0f} |", flush=True)


def draw(folder: Path, count: int) -> None:
    """Fill `folder` up to `count` different files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(list(folder.iterdir())), count):
        suffix = "png" if i % 2 else "jpg"
        path, template = (folder / f"{number:06d}.{suffix}" for number in (i, i % DISTINCT))
        if i < DISTINCT:
            render(sample_spec(i), 256).save(path, **({} if i % 2 else {"quality": 92}))
        else:
            path.write_bytes(template.read_bytes() + b"%06d" % i)


def run(name: str, raw: Path, workers: int) -> tuple[float, float, float]:
    """Run a program on a class; return its seconds, CPU seconds and peak MiB, with its child processes."""
    code = f"from pathlib import Path; raw, workers = Path({str(raw)!r}), {workers}; {PROGRAMS[name]}"
    peak, start, before = 0, time.perf_counter(), os.times()
    with psutil.Popen([sys.executable, "-c", code], env=environment(), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                family = [process, *process.children(recursive=True)]
                peak = max(peak, sum(member.memory_info().rss for member in family))
            time.sleep(0.05)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu, peak / 2**20


def measure_precision(folder: Path, classes: list[str]) -> None:
    """Print precision and recall of the rejected files; 23 of the 52 files of a class are unusable."""
    print("\n| class | seed | precision | recall |\n|---|---|---|---|")
    total = [0, 0, 0]
    for name, seed in (entry.split() for entry in classes):
        build(folder / seed, name, int(seed))
        unusable = {file for file, known in truth(name, int(seed)).items() if not known.usable}
        rows, _ = build_manifest(folder / seed, Filter(**{"class": name}), 1)
        rejected = {Path(row.file).name for row in rows.itertuples() if row.verdict == "reject"}
        counts = [len(rejected & unusable), len(rejected), len(unusable)]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        print(f"| {name} | {seed} | {counts[0] / counts[1]:.3f} | {counts[0] / counts[2]:.3f} |", flush=True)
    print(f"| all | | {total[0] / total[1]:.3f} | {total[0] / total[2]:.3f} |")


if __name__ == "__main__":
    main()
