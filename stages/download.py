"""The source that params name => data/raw/<Class>/<file>, and a receipt of what came."""

from pathlib import Path

from stages.common.files import folder_atomic, write_json
from stages.common.locks import lock
from stages.common.params import load
from stages.common.stage import stage
from stages.images.sources.fetch import fetch

RAW = Path("data/raw")
RECEIPT = Path("data/raw.json")
SCRATCH = Path(".scratch/download")


@stage
def main() -> str:
    """dataset => data/raw, data/raw.json."""
    params = load("dataset", "runtime")
    with lock(SCRATCH, "download"), folder_atomic(RAW) as raw:
        receipt = fetch(params.dataset, raw, SCRATCH)
    write_json(RECEIPT, receipt)
    return f"{receipt['files']} pictures of {len(receipt['classes'])} classes in {RAW}, receipt in {RECEIPT}"


if __name__ == "__main__":
    main()
