"""Report what DVC does not see: python -m stages.common.watch. `make run` and `make dvc` call this first.

The dataset's folder or archive may have changed since download read it; names, sizes and times are compared. And
data/raw may have files that download did not write, which `dvc exp run` and `dvc exp apply` would delete. If DVC was
killed, its own files may be cut off, because it does not write them atomically.
"""

import time
from pathlib import Path

from stages import UserError
from stages.common.files import write_atomic
from stages.common.hashing import fingerprint, unlisted_files
from stages.common.params import load
from stages.common.stage import stage

RECORD = Path(".scratch/source")
RAW = Path("data/raw")
ENDS = {Path("dvc.lock"): b"\n", Path(".dvc/tmp/rwlock"): b"}"}  # files of DVC, and how each of them ends


def listing(source: Path) -> str:
    """Return the watched path, and a fingerprint of the names, sizes and times of the files there, if any."""
    paths = sorted(path for path in [source, *source.rglob("*")] if path.is_file())
    return f"{source}\n{fingerprint([(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths])}"


def record(listed: str) -> None:
    """Record the listing of the source that download has read, so that `make run` sees later changes."""
    write_atomic(RECORD, listed)


def remove_cut_files() -> list[Path]:
    """Remove files of DVC that are cut off, with which it refuses to run; return them.

    DVC writes them again, and takes the outs of dvc.lock from its cache of runs.
    """
    cut = [file for file, end in ENDS.items() if file.is_file() and not file.read_bytes().endswith(end)]
    if cut:
        time.sleep(1)  # another process of DVC may be writing them
        cut = [file for file in cut if file.is_file() and not file.read_bytes().endswith(ENDS[file])]
    for file in cut:
        file.unlink()
    return cut


@stage
def main() -> str:
    for file in remove_cut_files():
        print(f"watch: removed {file}, which DVC had not written to its end; it writes it again")
    if unlisted_files(RAW):
        raise UserError(f"{RAW} has files that download did not write; download names them.")
    dataset = load("dataset").dataset
    source, recorded = Path(dataset.path or ""), RECORD.read_text() if RECORD.is_file() else ""
    if dataset.source not in ("folder", "archive") or not recorded.startswith(f"{source}\n") or not source.exists():
        return "nothing outside of the project to compare"
    if listing(source) != recorded:
        raise UserError(f"{source} has changed since download read it; download runs again.")
    return f"{source} has not changed since download read it"


if __name__ == "__main__":
    main()
