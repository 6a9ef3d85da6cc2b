"""DVC's experiments as the README shows them: quoting, the table of `make exp`, the queue, and sharing."""

import re
import subprocess
import time
from pathlib import Path

import dvc.api
import pytest

from stages.common.params import read
from tests import project
from tests.closure import ROOT


def recipe(target: str) -> str:
    """Return the last command of a make target, as the shell runs it."""
    command = ["make", "-n", "--no-print-directory", target]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return printed.replace("\\\n", " ").strip().splitlines()[-1]


def test_make_exp_fits_a_terminal(repository: Path):
    printed = project.run(repository, "bash", "-c", recipe("exp"))
    assert max(len(line) for line in printed.splitlines()) <= 120
    (header,) = (line.split() for line in printed.splitlines() if "Experiment" in line)
    assert header == ["Experiment", "image_similarity_gap_closed", "train.learning_rate"], "only what differs"
    assert re.findall(r"high-rate|main|<i>low", printed) == ["main", "high-rate", "<i>low"]


def test_quoted_prompts_survive(repository: Path):
    overrides = (r"""render.prompts.plain='a "big" {}, red = Ann\'s'""", "render.prompts.sea='<{}> (red:1.2) # $5'")
    project.run(repository, "dvc", "exp", "run", "--queue", "-S", overrides[0], "-S", overrides[1])
    project.git(repository, "checkout", "-q", "refs/exps/celery/stash", "--", "params.yaml")
    prompts = read(Path("params.yaml"))["render"]["prompts"]
    assert prompts == {"plain": """a "big" {}, red = Ann's""", "sea": "<{}> (red:1.2) # $5"}


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("render.prompts.plain=a {}", "no viable alternative|mismatched input"),
        ("render.prompts.plain='a {} ${x}'", "Interpolation key 'x' not found"),
        ("render.negative_prompt='x'", r"To append to your config use \+render.negative_prompt"),
    ],
)
def test_other_overrides_are_refused(repository: Path, override: str, error: str):
    printed = project.run(repository, "dvc", "exp", "run", "--queue", "-S", override, ok=False)
    assert re.search(error, printed)
    assert "Traceback" not in printed


def test_dry_run_of_a_clone_without_data_finds_results_that_are_out_of_date(repository: Path, tmp_path: Path):
    clone, command = tmp_path / "clone", ("dvc", "repro", "--dry", "--allow-missing")
    project.git(repository, "clone", "-q", ".", str(clone))
    assert "Data and pipelines are up to date" in project.run(clone, *command)
    params = clone / "params.yaml"
    params.write_text(params.read_text().replace("a {}", "the {}"))
    assert "failed to reproduce 'render'" in project.run(clone, *command, ok=False)


@pytest.mark.slow
def test_eight_queued_experiments_on_two_workers(tmp_path: Path):
    folder = project.create(tmp_path / "project")
    project.change(folder, train={"seed": 0}, runtime={"trackers": ["dvclive"]})
    project.repro(folder)
    project.commit(folder, "run")
    before = files(folder)
    prompt = """render.prompts.plain='a "big" {}, red = Ann\\'s'"""
    project.run(folder, "dvc", "exp", "run", "--queue", "-S", "train.seed=range(1,9)", "-S", prompt)
    project.run(folder, "dvc", "queue", "start", "-j", "2")
    while re.search("Queued|Running", status := project.run(folder, "dvc", "queue", "status")):
        time.sleep(2)
    assert status.count("Success") == 8, status
    assert files(folder) == before
    revisions = project.git(folder, "for-each-ref", "--format=%(objectname)", "refs/exps/*/*/*").split()
    shown = [dvc.api.params_show(repo=str(folder), rev=revision) for revision in revisions]
    assert {values["train"]["seed"] for values in shown} == set(range(1, 9))
    assert {values["render"]["prompts"]["plain"] for values in shown} == {"""a "big" {}, red = Ann's"""}
    embedding = "data/embedding/learned_embeds.safetensors"
    read = [dvc.api.read(embedding, str(folder), revision, mode="rb") for revision in revisions]
    assert len(set(read)) == 8


@pytest.mark.slow
def test_experiments_are_shared_over_git_and_a_dvc_remote(repository: Path, tmp_path: Path):
    remote = ("dvc", "remote", "add", "--local", "-d", "storage", str(tmp_path / "storage"))
    project.run(repository, *remote)
    project.git(repository, "clone", "-q", "--bare", ".", str(tmp_path / "origin"))
    project.git(repository, "remote", "add", "origin", str(tmp_path / "origin"))
    project.run(repository, "dvc", "exp", "push", "origin", "high-rate")
    clone = tmp_path / "clone"
    project.git(repository, "clone", "-q", str(tmp_path / "origin"), str(clone))
    project.run(clone, *remote)
    project.run(clone, "dvc", "exp", "pull", "origin", "high-rate")
    for kind, words in (("params", "learning_rate"), ("metrics", "image_similarity_gap_closed")):
        assert words in project.run(clone, "dvc", kind, "diff", "HEAD", "high-rate")
    assert "navy" in dvc.api.read("data/train.json", str(clone), "HEAD")
    assert dvc.api.read("data/validation.csv", str(clone), "high-rate").startswith("step")


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file outside of git's and DVC's folders."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    names = {str(path.relative_to(folder)): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith((".git/", ".dvc/"))}
