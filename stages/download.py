"""Fetch the dataset into data/raw/<Class>/, and write a receipt."""

from pathlib import Path

from stages.common.files import folder_atomic, write_json
from stages.common.params import load
from stages.common.stage import stage
from stages.images.sources.fetch import fetch

RAW = Path("data/raw")
RECEIPT = Path("data/raw.json")
SCRATCH = Path(".scratch/download")


@stage
def main() -> str:
    """Write data/raw and data/raw.json."""
    dataset = load("dataset").dataset
    try:
        with folder_atomic(RAW) as raw:
            receipt = fetch(dataset, raw, SCRATCH)
    except OSError as error:
        error.filename = error.filename or str(SCRATCH)  # ENOSPC comes without a file name.
        raise
    write_json(RECEIPT, receipt)
    return f"{receipt['files']} images of {len(receipt['classes'])} classes in {RAW}, receipt in {RECEIPT}"


if __name__ == "__main__":
    main()
