"""Fetch the dataset into data/raw/<Class>/, and write a receipt."""

from pathlib import Path

from stages import UserError
from stages.common.files import folder_atomic, unlisted_files, write_checksums, write_json
from stages.common.params import load
from stages.common.stage import stage
from stages.common.watch import listing, record
from stages.images.sources.fetch import fetch

RAW = Path("data/raw")
RECEIPT = Path("data/raw.json")
SCRATCH = Path(".scratch/download")


@stage
def main() -> str:
    """Write data/raw and data/raw.json, and data/raw/SHA256SUMS, by which the next run recognizes its own files."""
    dataset = load("dataset").dataset
    source = Path(dataset.path or "")
    _check_paths(dataset.source == "folder", source)
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


def _check_paths(is_folder: bool, source: Path) -> None:
    """Raise UserError if data/raw has files that download did not write, or if it is in `source` or contains it."""
    advice = (
        "Move your images to a folder outside of data/, such as images/<Class>, and set dataset to {source: folder, "
    )
    advice += "path: images}."
    if unlisted := unlisted_files(RAW):
        names = ", ".join(map(str, unlisted[:5])) + f" and {len(unlisted) - 5} more" * (len(unlisted) > 5)
        raise UserError(f"download did not write {names}, and would delete them with {RAW}; nothing was done. {advice}")
    raw, source = RAW.resolve(), source.resolve()
    if is_folder and (raw.is_relative_to(source) or source.is_relative_to(raw)):
        raise UserError(f"dataset.path {source} overlaps {RAW}, which download replaces. {advice}")


if __name__ == "__main__":
    main()
