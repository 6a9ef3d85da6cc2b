"""data/manifest.csv, data/raw => data/curated: the few pictures that teach the word, and those that measure it."""

import io
from pathlib import Path

from stages.common.files import folder_atomic, write_atomic, write_json
from stages.common.params import load
from stages.common.stage import stage
from stages.images.selection.curate import curate, read

RAW = Path("data/raw")
MANIFEST = Path("data/manifest.csv")
FEATURES = Path("data/features.npy")
CURATED = Path("data/curated")
SHEET = Path("data/contact_sheet.png")
PAGE = Path("data/curated.html")


@stage
def main() -> str:
    """data/raw, data/manifest.csv, data/features.npy => data/curated, data/contact_sheet.png, data/curated.html."""
    params = load("curate")
    rows, features = read(MANIFEST, FEATURES)
    with folder_atomic(CURATED) as folder:
        index, sheet, page = curate(RAW, rows, features, params.curate, folder)
        write_json(folder / "index.json", index)
    picture = io.BytesIO()
    sheet.save(picture, "PNG")
    write_atomic(SHEET, picture.getvalue())
    write_atomic(PAGE, page)
    return (
        f"{len(index['train'])} pictures to train on and {len(index['holdout'])} held out in {CURATED}; "
        f"look at {SHEET}, and change the choice in {PAGE}"
    )


if __name__ == "__main__":
    main()
