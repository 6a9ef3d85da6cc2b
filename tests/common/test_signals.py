"""The first signal is recorded; a second SIGINT or SIGHUP ends the process, a second SIGTERM does not."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # a background job is started with them ignored
from stages.common.signals import StopSignal
stop = StopSignal()
assert not stop()
os.kill(os.getpid(), signal.{name})
assert stop() and stop.received == signal.{name}
print("recorded", flush=True)
os.kill(os.getpid(), signal.{name})
print("still here", flush=True)
"""


def run(program: str, name: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", program.format(name=name)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_first_signal_is_recorded_and_second_ends_the_process(name: str):
    done = run(PROGRAM, name)
    assert done.stdout == "recorded\n"
    assert done.returncode == -getattr(signal, name)


def test_second_sigterm_is_ignored_as_the_end_of_dvc_sends_several():
    done = run(PROGRAM, "SIGTERM")
    assert done.stdout == "recorded\nstill here\n"
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("is_recorded", [True, False])
def test_released_signal_unwinds_the_stack_also_if_it_came_before(name: str, is_recorded: bool):
    kill = "os.kill(os.getpid(), signal.{name})"
    release = "stop.release()"
    lines = [PROGRAM.partition("assert not")[0], "from stages.common.signals import unwinding", "with unwinding():"]
    lines += [f"    {line}" for line in ("stop()", *([kill, release] if is_recorded else [release, kill]))]
    done = run("\n".join([*lines, "    print('still here')"]), name)
    assert done.stdout == ""
    assert f"stopped by {name}; run the same command to continue.\n" in done.stderr
    assert done.returncode == 128 + getattr(signal, name)


def test_hangup_stays_ignored_under_nohup():
    code = "import os, signal\nfrom stages.common.signals import unwinding\n"
    code += "with unwinding():\n    os.kill(os.getpid(), signal.SIGHUP)\n    print('still here')"
    done = subprocess.run(["nohup", sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "still here\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signal_unwinds_the_stack_and_exits_with_its_number(name: str):
    code = (
        PROGRAM.partition("from stages")[0]
        + """
from stages.common.signals import unwinding
with unwinding():
    try:
        os.kill(os.getpid(), signal.{name})
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("unwound")
"""
    )
    done = run(code, name)
    assert done.stdout == "unwound\n"
    assert f"stopped by {name}; run the same command to continue.\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 128 + getattr(signal, name)
