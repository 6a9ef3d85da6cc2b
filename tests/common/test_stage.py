"""The stage decorator: one line of results, and one line for a user's error."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages import UserError
from stages.common.stage import stage
from tests.closure import ROOT


def test_summary_is_printed_with_the_time(capsys: pytest.CaptureFixture):
    @stage
    def main() -> str:
        return "3 pictures in data/raw"

    main()
    assert capsys.readouterr().out.startswith("test_stage: 3 pictures in data/raw (0.")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("no such class."), "test_stage: no such class."),
        (
            OSError(errno.ENOSPC, "No space left on device", "data/x"),
            "No space left on device: data/x; free some space",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "data/x"), "Permission denied: data/x"),
    ],
)
def test_user_error_is_one_line_with_exit_code_1(error: Exception, words: str):
    @stage
    def main() -> str:
        raise error

    with pytest.raises(SystemExit) as caught:
        main()
    assert words in str(caught.value.code)
    assert "\n" not in str(caught.value.code)


@pytest.mark.parametrize("error", [ValueError("bug"), FileNotFoundError(errno.ENOENT, "bug")])
def test_bug_keeps_its_traceback(error: Exception):
    @stage
    def main() -> str:
        raise error

    with pytest.raises(type(error)):
        main()


def test_summary_is_printed_on_a_terminal_without_unicode():
    code = "from stages.common.stage import stage; stage(lambda: '23.7 % (± 5.1)')()"
    code = f"import sys; sys.modules['__main__'].__spec__ = sys.__spec__; {code}"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "23.7 % (? 5.1) (0." in done.stdout


def test_signal_unwinds_and_skips_the_clean_up_of_python(tmp_path: Path):
    """The clean-up of a process that imported PyTorch takes longer than the two seconds that a stage has."""
    (tmp_path / "stopped.py").write_text(
        "import atexit, os, signal\n"
        "from stages.common.stage import stage\n"
        "atexit.register(print, 'Python cleans up')\n"
        "@stage\n"
        "def main():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally:\n"
        "        print('unwound')\n"
        "main()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stopped"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stdout == "unwound\n"
    assert done.stderr == "stopped: stopped by SIGTERM; run the same command to continue.\n"


def test_exit_handlers_run_and_the_teardown_of_modules_does_not(tmp_path: Path):
    (tmp_path / "done.py").write_text(
        "import atexit\n"
        "from stages.common.stage import stage\n"
        "class Module:\n"
        "    def __del__(self):\n"
        "        print('torn down')\n"
        "module = Module()\n"
        "atexit.register(print, 'exit handler')\n"
        "@stage\n"
        "def main():\n"
        "    return '3 images'\n"
        "main()\n"
    )
    command, environment = [sys.executable, "-m", "done"], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    summary, *others = done.stdout.splitlines()
    assert summary.startswith("done: 3 images (")
    assert others == ["exit handler"]
