"""The default run needs no network: what it names is here, and the pipeline tests run with the network shut."""

import sys
from pathlib import Path

from stages.common.params import read, validate
from tests import project
from tests.closure import ROOT

ASK = "import socket; socket.create_connection(('192.0.2.1', 9), timeout=5)"  # TEST-NET-1: nobody is there (RFC 5737)


def test_the_default_params_name_only_what_is_here():
    params = validate(read(ROOT / "params.yaml"), Path("params.yaml"))
    assert params["dataset"].source == "starter"
    assert (ROOT / params["model"].base / "model_index.json").is_file()
    assert (ROOT / params["evaluate"].clip / "config.json").is_file()


def test_in_the_pipeline_tests_a_connection_outward_fails(tmp_path: Path):
    assert "the tests allow no network" in project.run(tmp_path, sys.executable, "-c", ASK, ok=False)
