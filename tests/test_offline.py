"""The default run needs no network, and the pipeline tests run without one."""

import sys
from pathlib import Path

from stages.common.params import read, validate
from tests import project
from tests.closure import ROOT

CONNECT = "import socket; socket.create_connection(('192.0.2.1', 9), timeout=5)"  # TEST-NET-1 (RFC 5737) has no hosts


def test_default_params_name_local_files_only():
    params = validate(read(ROOT / "params.yaml"), Path("params.yaml"))
    assert params["dataset"].source == "starter"
    assert (ROOT / params["model"].base / "model_index.json").is_file()
    assert (ROOT / params["evaluate"].clip / "config.json").is_file()


def test_pipeline_tests_cannot_connect(tmp_path: Path):
    assert "the tests allow no network" in project.run(tmp_path, sys.executable, "-c", CONNECT, ok=False)
