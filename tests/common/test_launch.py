"""One process needs no launcher: the module runs in the process of the command, with accelerate's settings."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.closure import ROOT

CODE = "import os, sys\nprint(os.getpid(), __name__, sys.argv[1:], os.environ['ACCELERATE_MIXED_PRECISION'])\n"


def test_single_process_runs_in_that_of_the_command(tmp_path: Path):
    (tmp_path / "printed.py").write_text(CODE)
    (options,) = re.findall(
        r"stages\.common\.launch (.*) -m stages\.train$", (ROOT / "dvc.yaml").read_text(), re.MULTILINE
    )
    command = [sys.executable, "-m", "stages.common.launch", *options.split(), "-m", "printed", "a", "--b"]
    paths = os.pathsep.join([str(ROOT), str(tmp_path)])
    environment = os.environ | {"PYTHONPATH": paths, "HF_HOME": str(tmp_path)}  # without an `accelerate config`
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        printed, _ = process.communicate()
    assert process.returncode == 0
    assert printed == f"{process.pid} __main__ ['a', '--b'] no\n"
