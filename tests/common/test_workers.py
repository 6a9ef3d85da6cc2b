"""Workers may die: no sound image is lost or blamed."""

import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from stages import UserError
from stages.common import workers
from stages.common.workers import map_in_workers
from stages.images.quality.manifest import build_manifest
from stages.images.quality.measure_file import measure_file
from stages.images.quality.params import Filter
from tests.images import corpus

PARAMS = Filter(**{"class": "Thing"})


def exit_on_crash(name: str, raw: Path, max_megapixels: float) -> tuple[dict, np.ndarray]:
    """Measure a file, but end the process if its content says so."""
    if (raw / name).read_bytes() == b"crash":
        os._exit(1)
    return measure_file(name, raw, max_megapixels)


def test_only_the_file_that_kills_its_worker_is_blamed(tmp_path: Path):
    images = {f"{i}": corpus.scene(128, i) for i in range(5)}
    raw = corpus.save(tmp_path, **images | {"2": b"crash"})
    manifest, features = build_manifest(raw, PARAMS, 2, exit_on_crash)
    assert manifest["reason"].tolist() == ["", "", "crashes-the-decoder", "", ""]
    assert [features[i].any() for i in range(5)] == [True, True, False, True, True]


def kill_workers(stop: threading.Event, killed: list[psutil.Process]) -> None:
    """Kill a random worker, a few times."""
    while len(killed) < 5 and not stop.wait(random.uniform(0.1, 0.2)):
        for child in psutil.Process().children():
            if grandchildren := child.children():  # of the fork server
                killed.append(random.choice(grandchildren))
                killed[-1].kill()


def test_random_kills_do_not_change_the_manifest(tmp_path: Path):
    content = corpus.saved(corpus.scene(1200, 3), "PNG")
    raw = corpus.save(tmp_path, **{f"{i:02d}": content + b"%d" % i for i in range(50)})
    expected, _ = build_manifest(raw, PARAMS, 2)
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_workers, args=(stop, killed))
    killer.start()
    manifest, _ = build_manifest(raw, PARAMS, 2)
    stop.set()
    killer.join()
    assert killed
    assert manifest.to_csv() == expected.to_csv()


def interrupts_are_ignored(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_workers_do_every_item_once_and_ignore_interrupts():
    assert sorted(map_in_workers(str, None, list(range(500)), 2)) == [(i, str(i)) for i in range(500)]
    assert list(map_in_workers(interrupts_are_ignored, None, [0], 1)) == [(0, True)]


def test_exception_of_the_function_is_raised():
    with pytest.raises(ValueError, match="invalid literal"):
        list(map_in_workers(int, None, ["1", "x", "2"], 2))


def test_workers_that_cannot_start_are_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "_serve", os._exit)  # the arguments are wrong, so the process ends
    with pytest.raises(UserError, match="no worker process starts in 5 attempts"):
        list(map_in_workers(str, None, [1], 1))


def test_slow_items_are_stopped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "SECONDS", 1)
    results = map_in_workers(time.sleep, lambda *failure: failure, [60, 0], 1)
    assert dict(results) == {60: (60, *workers.SLOW), 0: None}


def test_full_temporary_folder_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/full"])
    with pytest.raises(
        UserError, match=r"No usable temporary directory found in \['/dev/null/full'\]; free some space"
    ):
        list(map_in_workers(str, None, [1], 1))
