"""Download one large file over an unreliable network, and resume in this run or in the next."""

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from stages import UserError
from stages.common.deadline import deadline
from stages.common.files import write_atomic

RETRIES = 5  # in a row without progress
LONGEST_WAIT_S = 900
TIMEOUT_S = (15, 60)  # to connect, and for the next bytes
ANSWER_S = 60  # for the headers of an answer, or for an answer of Kaggle's client
SLOWEST, GRACE_S = 1024, 60  # bytes per second
TRANSIENT = {408, 425, 429, *range(500, 600)}


def download(
    locate: Callable[[], tuple[str, dict]], target: Path, server: str, advice: dict[int, str], max_bytes: float
) -> None:
    """Download to `target` the file at the address, and with the headers, that `locate` returns for each request.

    Raises UserError that names `server`, with `advice` for some statuses, for more than `max_bytes`, and for a server
    that sends less than SLOWEST bytes per second for GRACE_S. What has arrived is kept for the next run.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()
    farthest, failures = target.stat().st_size, 0
    while True:
        try:
            return _request(*locate(), target, max_bytes)
        except (requests.RequestException, HTTPError, TimeoutError, ValueError) as error:  # ValueError: a header
            size, response = target.stat().st_size, getattr(error, "response", None)
            failures = 1 if size > farthest else failures + 1
            farthest, wait = max(size, farthest), 2.0 ** (failures - 1)
            if response is None:
                is_final = isinstance(error, requests.ConnectionError) and not farthest  # no network at all
                action = "check the network, http_proxy and https_proxy, and run again to resume"
                message = f"no connection to {server} ({type(error).__name__}); {action}."
            else:
                with contextlib.suppress(InvalidHeader):
                    wait = Retry().get_retry_after(response) or wait
                is_final = response.status_code not in TRANSIENT
                action = advice.get(response.status_code, f"wait {wait:.0f} s and run again")
                message = f"{server} answers {response.status_code} ({response.reason}); {action}."
            if is_final or failures > RETRIES or wait > LONGEST_WAIT_S:
                raise UserError(message) from None
            time.sleep(wait)


def _request(address: str, headers: dict[str, str], target: Path, max_bytes: float) -> None:
    """Request the missing bytes and append what arrives, or raise an error of requests or urllib3."""
    marker = target.with_suffix(".version")
    version = marker.read_text() if marker.exists() else ""
    start = target.stat().st_size if version else 0
    if start:
        headers = headers | {"Range": f"bytes={start}-", "If-Range": version}
    with deadline(ANSWER_S):
        response = requests.get(address, headers=headers, stream=True, timeout=TIMEOUT_S)
    with response:
        span = response.headers.get("Content-Range", "")
        new_version = response.headers.get("ETag") or response.headers.get("Last-Modified", "")
        match response.status_code:
            case 416 if span == f"bytes */{start}":
                return
            case 206 if new_version == version and span.startswith(f"bytes {start}-"):
                pass
            case 206 | 416:
                marker.unlink()
                raise requests.ConnectionError("bytes of another version, or not those that were requested")
            case _:
                response.raise_for_status()
                target.write_bytes(b"")
                write_atomic(marker, new_version)
                start = 0
        rest = int(response.headers.get("Content-Length", 0))
        if rest > shutil.disk_usage(target.parent).free:
            raise UserError(f"{target.parent} needs {rest / 2**30:.1f} GiB of free space; make room and run again.")
        with target.open("ab") as file, tqdm.wrapattr(file, "write", start + rest, initial=start, disable=None) as out:
            begin = time.monotonic()
            while piece := response.raw.read1(1 << 18):  # read() would lose the bytes before a cut
                out.write(piece)
                if max(file.tell(), start + rest) > max_bytes:
                    raise UserError(f"the download has more than {max_bytes / 2**30:.2g} GiB (dataset.max_gib).")
                if time.monotonic() - begin > GRACE_S + (file.tell() - start) / SLOWEST:
                    raise UserError(f"the server sends less than {SLOWEST} bytes per second; run again to resume.")
    if span and not span.endswith(f"/{target.stat().st_size}"):
        raise requests.ConnectionError("less than the range that was requested")
