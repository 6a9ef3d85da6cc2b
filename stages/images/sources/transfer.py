"""One large file over a network that breaks => the whole file, going on where it was."""

import contextlib
import email.utils
import errno
import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError as BrokenOffError

from stages import UserError

TRIES = 6  # in a row that come no farther; any that does sets the count back
LONGEST_WAIT_S = 60
PATIENCE_S = 900  # a server that says to wait longer than this is believed, and the person told
TIMEOUT_S = (15, 60)
PIECE = 1 << 18

Locate = Callable[[], tuple[str, dict[str, str]]]
Sleep = Callable[[float], None]


class Remote:
    """The identity of a remote file: what must be the same for two pieces to belong together."""

    def __init__(self, etag: str | None, modified: str | None, size: int | None) -> None:
        self.etag, self.modified, self.size = etag, modified, size

    @classmethod
    def of(cls, response: requests.Response) -> "Remote":
        """A 200 or 206 => the file that it is, or is a part of."""
        headers = response.headers
        if response.status_code == requests.codes.partial_content:
            total = headers.get("Content-Range", "").rpartition("/")[2]
            size = int(total) if total.isdigit() else None
        else:
            size = int(headers["Content-Length"]) if headers.get("Content-Length", "").isdigit() else None
        return cls(headers.get("ETag"), headers.get("Last-Modified"), size)

    @property
    def validator(self) -> str | None:
        """What `If-Range` may hold (RFC 9110: no weak tag)."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and vars(self) == vars(other)

    __hash__ = None


def download(locate: Locate, target: Path, what: str, sleep: Sleep = time.sleep) -> None:
    """`locate` => (address, headers) of a file => `target`, complete by its own length.

    Goes on after a break, in this process or the next: `<target>.json` says to which remote file the bytes on disk
    belong, and a piece of any other is thrown away. Raises UserError when it cannot be had; what came is kept.
    """
    tries, farthest = 0, _length(target)
    with tqdm(desc="download", unit="B", unit_scale=True, unit_divisor=1024, disable=None) as bar:
        while True:
            try:
                if _piece(locate, target, bar):
                    return
                error: Exception | None = None
            except requests.HTTPError as failed:
                if not _passing(failed.response.status_code):
                    raise
                error = failed
            except (requests.ConnectionError, requests.Timeout, BrokenOffError) as failed:
                error = failed
            except OSError as failed:
                raise _disk(failed, target) from None
            # Farther than ever before is progress; starting anew and coming to the same place is not.
            tries = 1 if _length(target) > farthest else tries + 1
            farthest = max(farthest, _length(target))
            if tries >= TRIES:
                raise UserError(f"{_sentence(error, what)} What has come is kept: run again to go on.") from None
            sleep(wait(error, tries))


def wait(error: Exception | None, tries: int) -> float:
    """What went wrong and how often => seconds to wait: as the server says, else 1, 2, 4, ..."""
    response = getattr(error, "response", None)
    told = response.headers.get("Retry-After") if response is not None else None
    if told:
        with contextlib.suppress(ValueError, TypeError):
            seconds = float(told) if told.isdigit() else _until(told)
            if seconds > PATIENCE_S:
                raise UserError(f"Kaggle asks to wait {seconds / 60:.0f} minutes; run again then.")
            return max(seconds, 0.0)
    return float(min(2 ** (tries - 1), LONGEST_WAIT_S))


def _piece(locate: Locate, target: Path, bar: tqdm) -> bool:
    """One request => as many bytes as come; whether the file is complete."""
    have, known = _length(target), _known(target)
    if known is None:
        have = 0
    address, headers = locate()
    if have and known.size == have:
        return True
    asked = dict(headers)
    if have:
        asked["Range"] = f"bytes={have}-"
        if known.validator:
            asked["If-Range"] = known.validator
    with requests.get(address, headers=asked, stream=True, timeout=TIMEOUT_S) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            discard(target)
            return False
        response.raise_for_status()
        remote = Remote.of(response)
        if response.status_code == requests.codes.partial_content:
            start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
            if remote != known or start != str(have):
                discard(target)  # changed since the first piece came: bytes of two files make none
                return False
        else:
            have = 0
            discard(target)
            _remember(target, remote)
        _room(target, remote, have)
        bar.reset(remote.size)
        bar.update(have)
        with target.open("ab") as file:
            while piece := response.raw.read1(PIECE):  # as it comes: waiting for a full piece would lose it at a cut
                file.write(piece)
                bar.update(len(piece))
    came = _length(target)
    if remote.size is not None and came > remote.size:
        discard(target)
    return came == remote.size if remote.size is not None else came > 0


def _passing(status: int) -> bool:
    return status in (408, 425, 429) or status >= 500


def _sentence(error: Exception | None, what: str) -> str:
    response = getattr(error, "response", None)
    if response is not None and response.status_code == 429:
        return f"Kaggle says that too much was asked of it (429), {TRIES} times; wait an hour."
    if response is not None:
        return f"Kaggle has trouble of its own ({response.status_code}), {TRIES} times; try later."
    if error is None:
        return f"{what} does not come whole: its length or its content changes between two pieces; try later."
    if isinstance(error, BrokenOffError):
        return f"{what} breaks off again and again at the same place; try another network, or later."
    return "Kaggle cannot be reached; check the network, and http_proxy and https_proxy if you are behind one."


def _disk(error: OSError, target: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"no space is left in {target.parent}; make room and run again, it goes on where it was.")
    return error


def _room(target: Path, remote: Remote, have: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if remote.size and remote.size - have > free:
        raise UserError(
            f"{(remote.size - have) / 2**30:.1f} GiB are still to come, but {target.parent} has {free / 2**30:.1f} GiB "
            "free; make room and run again, it goes on where it was."
        )


def _length(target: Path) -> int:
    return target.stat().st_size if target.exists() else 0


def _note(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _known(target: Path) -> Remote | None:
    try:
        return Remote(**json.loads(_note(target).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _remember(target: Path, remote: Remote) -> None:
    _note(target).write_text(json.dumps(vars(remote)))


def discard(target: Path) -> None:
    """What came of a file, and what is known of it => gone."""
    _note(target).unlink(missing_ok=True)
    target.unlink(missing_ok=True)


def _until(date: str) -> float:
    return (email.utils.parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
