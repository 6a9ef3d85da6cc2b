"""Report what DVC does not see: python -m stages.common.watch. `make run` and `make dvc` call this first.

The dataset's folder or archive may have changed since download read it; names, sizes and times are compared. And
data/raw may have files that download did not write, which `dvc exp run` and `dvc exp apply` would delete.
"""

from pathlib import Path

from stages import UserError
from stages.common.files import write_atomic
from stages.common.hashing import fingerprint, unlisted_files
from stages.common.params import load
from stages.common.stage import stage

RECORD = Path(".scratch/source")
RAW = Path("data/raw")


def listing(source: Path) -> str:
    """Return the watched path, and a fingerprint of the names, sizes and times of the files there, if any."""
    paths = sorted(path for path in [source, *source.rglob("*")] if path.is_file())
    return f"{source}\n{fingerprint([(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths])}"


def record(listed: str) -> None:
    """Record the listing of the source that download has read, so that `make run` sees later changes."""
    write_atomic(RECORD, listed)


@stage
def main() -> str:
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
