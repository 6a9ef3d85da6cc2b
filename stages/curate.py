"""Choose the training images and the held-out images."""

from pathlib import Path

from stages.common.files import folder_atomic, png_bytes, write_atomic, write_json
from stages.common.params import load
from stages.common.stage import stage
from stages.images.selection.curate import curate, read_manifest

RAW = Path("data/raw")
MANIFEST = Path("data/manifest.csv")
FEATURES = Path("data/features.npy")
CURATED = Path("data/curated")
SHEET = Path("data/contact_sheet.png")
PAGE = Path("data/curated.html")


@stage
def main() -> str:
    """Run the stage curate: write data/curated, data/contact_sheet.png and data/curated.html."""
    params = load("curate")
    manifest, features = read_manifest(MANIFEST, FEATURES)
    with folder_atomic(CURATED) as folder:
        index, sheet, page = curate(RAW, manifest, features, params.curate, folder)
        write_json(folder / "index.json", index)
    write_atomic(SHEET, png_bytes(sheet))
    write_atomic(PAGE, page)
    return (
        f"{len(index['train'])} training images and {len(index['holdout'])} held-out images in {CURATED}; "
        f"see {SHEET}, and change the choice in {PAGE}"
    )


if __name__ == "__main__":
    main()
