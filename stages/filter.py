"""Measure every image of the class and decide whether it is usable."""

import io
from pathlib import Path

import numpy as np

from stages.common.files import write_atomic
from stages.common.params import load
from stages.common.stage import stage
from stages.images.quality.manifest import build_manifest

RAW = Path("data/raw")
MANIFEST = Path("data/manifest.csv")
FEATURES = Path("data/features.npy")


@stage
def main() -> str:
    """Run the stage filter: write data/manifest.csv and data/features.npy for the files of the class in data/raw."""
    params = load("filter", "runtime")
    runtime = params.runtime
    workers = runtime.cores if runtime.workers == "auto" else runtime.workers
    manifest, features = build_manifest(RAW, params.filter, workers)
    write_atomic(MANIFEST, manifest.to_csv(index=False, lineterminator="\n"))
    buffer = io.BytesIO()
    np.save(buffer, features)
    write_atomic(FEATURES, buffer.getvalue())
    rejected = manifest["reason"][manifest["verdict"] == "reject"].value_counts()
    reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.items())
    kept = len(manifest) - rejected.sum()
    return f"{kept} of {len(manifest)} images are usable{f' (rejected: {reasons})' if reasons else ''}; see {MANIFEST}"


if __name__ == "__main__":
    main()
