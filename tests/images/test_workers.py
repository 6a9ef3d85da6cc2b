"""Workers may die: no sound image is lost or blamed."""

import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from stages.images.quality import measurements
from stages.images.quality.manifest import build_manifest
from stages.images.quality.measurements import measure_file
from stages.images.quality.params import Filter
from stages.images.quality.workers import map_in_workers
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


def kill_workers(stop: threading.Event, killed: list[int]) -> None:
    """Kill a random worker, a few times."""
    while len(killed) < 4 and not stop.wait(random.uniform(0.5, 0.8)):
        workers = [worker for child in psutil.Process().children() for worker in child.children()]  # of the fork server
        for worker in random.sample(workers, min(len(workers), 1)):
            os.kill(worker.pid, signal.SIGKILL)
            killed.append(worker.pid)


def test_random_kills_do_not_change_the_manifest(tmp_path: Path):
    content = corpus.saved(corpus.scene(1600, 3), "PNG")
    raw = corpus.save(tmp_path, **{f"{i:02d}": content + b"%d" % i for i in range(60)})
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


def test_workers_keep_the_order_and_ignore_interrupts():
    assert list(map_in_workers(str, range(500), 2, None)) == [str(i) for i in range(500)]
    assert list(map_in_workers(interrupts_are_ignored, [0], 1, None)) == [True]


def test_slow_decoding_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measurements, "SECONDS", 1)
    monkeypatch.setattr(measurements, "decode", lambda *_: time.sleep(60))
    row, _ = measure_file("Thing/a.png", corpus.save(tmp_path, a=corpus.scene(64, 1)), 100)
    assert (row["reason"], row["detail"]) == ("slow-to-decode", "takes more than 1 s")
