"""data/raw => data/manifest.csv: every picture of the class, what it is like, and whether it is usable."""

from pathlib import Path

from stages.common.params import load
from stages.common.stage import stage
from stages.images.quality.manifest import build_manifest

RAW = Path("data/raw")
MANIFEST = Path("data/manifest.csv")
FEATURES = Path("data/features.npy")


@stage
def main() -> str:
    """data/raw => data/manifest.csv, data/features.npy."""
    params = load("filter", "runtime")
    runtime = params.runtime
    workers = runtime.cores if runtime.workers == "auto" else runtime.workers
    counts = build_manifest(RAW, params.filter, workers, MANIFEST, FEATURES)
    kept, total = counts.pop("", 0), counts.total()
    why = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    return f"{kept} of {kept + total} pictures are usable{f' (not: {why})' if why else ''}; see {MANIFEST}"


if __name__ == "__main__":
    main()
