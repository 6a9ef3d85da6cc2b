"""Two persons share results over a folder, SSH and S3: the real DVC, git, sshd and S3 client."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import project, servers
from tests.closure import ROOT

pytestmark = pytest.mark.slow

AFTER_DOWNLOAD = ("filter", "curate", "train", "render", "evaluate", "report")
HOST, LOGIN = "host-of-the-first-person", "login-of-the-first-person"
AS_HOST = ["unshare", "--uts", "sh", "-c", f'hostname {HOST} && exec "$@"', "sh"]  # if the system allows it


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of the first person: run once, as a user and on a host whose names can be searched for."""
    folder = project.create(tmp_path_factory.mktemp("remotes") / "first")
    project.draw_images(folder / "images" / "Dog", 9)
    renamed = subprocess.run([*AS_HOST, "hostname"], capture_output=True, check=False).returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOGNAME", "USER"):
            patch.setenv(name, LOGIN)
        patch.setenv("HOME", str(folder.parent / "home"))
        project.run(folder, *(AS_HOST if renamed else []), "dvc", "repro")
    project.commit(folder, "run")
    return folder


@pytest.fixture(params=["folder", "ssh", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.Remote]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET)
    if request.param == "folder":
        yield servers.Remote(str(tmp_path / "storage"), folder=tmp_path / "storage")
    else:
        with servers.ssh(tmp_path / "ssh") if request.param == "ssh" else servers.s3() as server:
            yield server


def clone(upstream: Path, to: Path, remote: servers.Remote) -> Path:
    """Clone a project, and give this person's settings of the remote to .dvc/config.local."""
    project.git(upstream, "clone", "-q", str(upstream), str(to))
    for name, value in remote.settings.items():
        project.run(to, "dvc", "remote", "modify", "--local", "storage", name, value)
    return to


@pytest.fixture
def shared(first: Path, remote: servers.Remote, tmp_path: Path) -> Path:
    """A copy of the first person's project, pushed to the remote, whose URL is committed as the default."""
    folder = shutil.copytree(first, tmp_path / "first")
    project.run(folder, "dvc", "remote", "add", "-d", "storage", remote.url)
    for name, value in remote.settings.items():
        project.run(folder, "dvc", "remote", "modify", "--local", "storage", name, value)
    project.commit(folder, "share")
    project.run(folder, "dvc", "push", "-q", "--run-cache")
    return folder


def test_clone_runs_nothing_and_pays_for_what_it_changes(shared: Path, remote: servers.Remote, tmp_path: Path):
    second = clone(shared, tmp_path / "second", remote)
    project.run(second, "dvc", "pull", "-q", "--run-cache")
    assert project.repro(second) == []
    assert project.git(second, "status", "--porcelain") == ""
    for path in project.hashes(shared):
        assert project.content(second / path) == project.content(shared / path), path

    lean = clone(shared, tmp_path / "lean", remote)  # pulls nothing in advance
    assert project.repro(lean, "--pull", "--allow-missing") == []
    assert not (lean / "data" / "renders").exists()
    project.change(lean, report={"title": "Second"})
    assert project.repro(lean, "--pull", "--allow-missing") == ["report"]
    project.commit(lean, "title")
    project.run(lean, "dvc", "push", "-q", "--run-cache")

    project.git(shared, "pull", "-q", str(lean), "main")
    project.run(shared, "dvc", "pull", "-q", "--run-cache")
    assert project.repro(shared) == []
    assert project.content(shared / "report") == project.content(lean / "report")
    assert b"Second" in (shared / "report" / "index.html").read_bytes()


def test_pushed_bytes_hold_no_secret_and_nothing_of_the_machine(shared: Path, remote: servers.Remote, tmp_path: Path):
    private = {str(ROOT), sys.prefix, str(tmp_path.parent), HOST, LOGIN, servers.KEY_ID, servers.SECRET}
    private |= {socket.gethostname()} if len(socket.gethostname()) > 5 else set()  # a short one is in any bytes
    if "keyfile" in remote.settings:
        private |= set(Path(remote.settings["keyfile"]).read_text().splitlines()[1:-1])
    objects = dict(remote.objects())
    assert {"files", "runs"} <= {part for name in objects for part in Path(name).parts}
    for name, content in objects.items():
        found = [text for text in private if text in name or text.encode() in content]
        assert not found, f"{name}: {found}"
    assert any(b"<critter>" in content for content in objects.values()), "the contents can be searched"
    config = project.git(shared, "show", "HEAD:.dvc/config")
    assert not [name for name in remote.settings if f"{name} =" in config]


def test_readme_can_be_followed_to_the_letter(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Both persons run the commands of the README; only the folder of the remote and the URL of git are replaced."""
    upstream, people = tmp_path / "oneword.git", (tmp_path / "one", tmp_path / "two")
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "Somebody")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "somebody@example.org")
    project.git(first, "clone", "-q", "--bare", str(first), str(upstream))
    project.git(first, "clone", "-q", str(upstream), str(people[0]))
    shutil.copytree(first / ".dvc" / "cache", people[0] / ".dvc" / "cache")
    project.run(people[0], "dvc", "checkout", "-q")
    people[1].mkdir()
    section = (ROOT / "README.md").read_text().split("## Share results")[1].split("\n## ")[0]
    section = section.replace("https://example.org/oneword.git", str(upstream))
    section = section.replace("/srv/oneword ", f"{tmp_path / 'storage'} ")
    share, use, python = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)
    project.run(people[0], "bash", "-ec", share)
    project.run(people[1], "bash", "-ec", use)
    project.run(people[1], "python", "-c", f"{python}\nassert embedding['<critter>'].shape == (1, 32)")
    second = people[1] / "oneword"
    assert project.repro(second) == []
    assert project.content(second / "report") == project.content(first / "report")
    assert (second / "embedding.safetensors").read_bytes() == (
        first / "data" / "embedding" / "learned_embeds.safetensors"
    ).read_bytes()
    assert "embedding@v0.0.1" in project.git(second, "ls-remote", "--tags", str(upstream))


def test_one_word_per_class_by_the_commands_of_the_docs(first: Path, tmp_path: Path):
    folder = shutil.copytree(first, tmp_path / "words")
    (commands,) = re.findall(r"```\n(for folder in.*?)```", (ROOT / "docs" / "sharing.md").read_text(), re.DOTALL)
    project.run(folder, "bash", "-ec", commands)
    wait(lambda: not re.search("Queued|Running", project.run(folder, "dvc", "queue", "status")))
    logs = {name: project.run(folder, "dvc", "queue", "logs", name) for name in ("Critter", "Dog")}
    assert re.findall(r"Running stage '(\w+)'", logs["Critter"]) == []  # the committed run is this word
    assert re.findall(r"Running stage '(\w+)'", logs["Dog"]) == list(AFTER_DOWNLOAD)
    project.run(folder, "dvc", "get", "-q", ".", "report/index.html", "--rev", "Dog", "-o", "dog.html")
    assert "&lt;dog&gt;" in (folder / "dog.html").read_text()
    (folder / "dog.html").unlink()
    assert project.git(folder, "status", "--porcelain") == ""


def wait(condition: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.5)


def test_slurm_runs_an_array_and_requeued_jobs_resume(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first job gets the signal that Slurm sends before the time limit while it trains."""
    upstream, folder, work = tmp_path / "origin.git", tmp_path / "laptop", tmp_path / "work"
    shutil.copytree(first, folder)
    shutil.copytree(ROOT / "cluster", folder / "cluster")
    lines = ["long train.steps=400", "other concept.placeholder_token='<other>' train.seed=1"]
    (folder / "experiments.txt").write_text("\n".join(lines) + "\n")
    project.change(folder, train={"seed": 0}, runtime={"checkpoint_seconds": 0})
    project.run(folder, "dvc", "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    project.commit(folder, "experiments")
    assert "commit and push" in project.run(folder, "cluster/slurm.sh", "experiments.txt", ok=False)
    project.git(folder, "clone", "-q", "--bare", str(folder), str(upstream))
    project.git(folder, "remote", "add", "origin", str(upstream))
    project.git(folder, "push", "-q", "origin", "main")
    project.run(folder, "dvc", "push", "-q", "--run-cache")
    with servers.slurm(tmp_path / "slurm") as config:
        monkeypatch.setenv("SLURM_CONF", str(config))
        monkeypatch.setenv("ONEWORD_WORK", str(work))
        project.run(folder, "cluster/slurm.sh", "experiments.txt", f"--output={tmp_path}/%a.log")
        wait(lambda: list(work.glob("*-1/.scratch/train/*/step-00000[1-9]*.safetensors")))
        project.run(folder, "scancel", "--batch", "--signal=USR1", "1_1")
        wait(lambda: "PENDING" in project.run(folder, "squeue", "--jobs=1_1", "--format=%T"))
        project.run(folder, "scontrol", "update", "jobid=1_1", "StartTime=now")
        wait(lambda: project.run(folder, "squeue", "--noheader") == "")
    _, _, log = (tmp_path / "1.log").read_text().partition("train: stopped at step ")
    stopped, steps = int(log.partition(";")[0]), re.findall(r"train: (\d+)/400 steps", log)
    assert stopped >= 100
    assert min(map(int, steps)) >= stopped, "the second start goes on from the checkpoint"
    project.run(folder, "dvc", "exp", "pull", "-q", "-A", "origin")
    assert set(project.run(folder, "dvc", "exp", "list", "--name-only").split()) == {"long", "other"}
    project.run(folder, "dvc", "exp", "apply", "-q", "long")
    assert project.repro(folder) == []
    assert list(work.iterdir()) == []
