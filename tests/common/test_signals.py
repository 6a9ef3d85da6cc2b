"""The first signal is recorded; the second has its usual effect."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job is started with it ignored
from stages.common.signals import StopSignal
stop = StopSignal()
assert not stop()
os.kill(os.getpid(), signal.{name})
assert stop() and stop.received == signal.{name}
print("recorded", flush=True)
os.kill(os.getpid(), signal.{name})
print("still here", flush=True)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_first_signal_is_recorded_and_second_ends_the_process(name: str):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "recorded\n"
    assert done.returncode == -getattr(signal, name)
