"""Fetch the dataset into data/raw/<Class>/, and write a receipt."""

from pathlib import Path

from stages.common.files import folder_atomic, write_json
from stages.common.hashing import write_checksums
from stages.common.params import load
from stages.common.stage import stage
from stages.common.watch import listing, record
from stages.images.sources.fetch import fetch
from stages.images.sources.layout import check_paths

RAW = Path("data/raw")
RECEIPT = Path("data/raw.json")
SCRATCH = Path(".scratch/download")


@stage
def main() -> str:
    """Run the stage download: write data/raw and data/raw.json; data/raw/SHA256SUMS tells its files from others."""
    dataset = load("dataset").dataset
    source = Path(dataset.path or "")
    check_paths(RAW, source if dataset.source == "folder" else None)
    try:
        listed = listing(source) if dataset.source in ("folder", "archive") else ""
        with folder_atomic(RAW) as raw:
            receipt = fetch(dataset, raw, SCRATCH)
            write_checksums(raw)
        record(listed)
    except OSError as error:
        error.filename = error.filename or str(SCRATCH)  # ENOSPC comes without a file name.
        raise
    write_json(RECEIPT, receipt)
    captions = f" and {receipt['captions']} captions" if receipt.get("captions") else ""
    return f"{receipt['files']} images of {len(receipt['classes'])} classes{captions} in {RAW}, receipt in {RECEIPT}"


if __name__ == "__main__":
    main()
