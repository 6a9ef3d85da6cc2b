"""Servers on the loopback interface: sshd with keys of its own, S3, and Slurm with one node."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

SBIN = "/usr/sbin"  # not on the path of every user
SSHD = Path(SBIN, "sshd")
KEY_ID, SECRET = "AKIAONLYFORTHISTEST", "only-for-this-test/0123456789abcdef"


@dataclass
class Remote:
    """A DVC remote: its URL, settings that are never committed, and the folder of its bytes (None on S3)."""

    url: str
    settings: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of every object."""
        if self.folder:
            for path in self.folder.rglob("*"):
                if path.is_file():
                    yield str(path.relative_to(self.folder)), path.read_bytes()
            return
        client = _s3_client(self.settings["endpointurl"])
        for page in client.get_paginator("list_objects_v2").paginate(Bucket="bucket"):
            for item in page["Contents"]:
                yield item["Key"], client.get_object(Bucket="bucket", Key=item["Key"])["Body"].read()


@contextlib.contextmanager
def ssh(folder: Path) -> Iterator[Remote]:
    """Start sshd on a free port; only the key that is made here may log in."""
    if not SSHD.exists():
        pytest.skip("no sshd: apt-get install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd of root refuses to start without it
    folder.mkdir()
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name], check=True)
    port = free_port()
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "user_key.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
    }
    command = [SSHD, "-D", "-e", "-f", "/dev/null", *(f"-o{name}={value}" for name, value in options.items())]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as server:
        try:
            while "Server listening" not in (folder / "log").read_text():
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
            user = pwd.getpwuid(os.geteuid()).pw_name
            settings = {"user": user, "keyfile": str(folder / "user_key")}
            yield Remote(f"ssh://127.0.0.1:{port}{folder}/storage", settings, folder / "storage")
        finally:
            server.terminate()


@contextlib.contextmanager
def s3() -> Iterator[Remote]:
    """Start an S3 server in this process, with one bucket. The keys are for the environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    try:
        _s3_client(endpoint).create_bucket(Bucket="bucket")
        yield Remote("s3://bucket/oneword", {"endpointurl": endpoint})
    finally:
        server.stop()


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Path]:
    """Start Slurm with this machine as its only node, all in `folder`; yield the path of its configuration."""
    missing = [name for name in ("munged", "slurmctld", "slurmd") if not shutil.which(name, path=SBIN)]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    (folder / "state").mkdir(parents=True)
    (folder / "spool").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    host, user = socket.gethostname().split(".")[0], pwd.getpwuid(os.geteuid()).pw_name
    settings = {
        "ClusterName": "test",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": free_port(),
        "SlurmdPort": free_port(),
        "SlurmUser": user,
        "SlurmdUser": user,
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/munge.socket",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres",
        "MpiDefault": "none",
        "NodeName": f"{host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN",
        "PartitionName": f"main Nodes={host} Default=YES MaxTime=INFINITE State=UP",
    }
    config = folder / "slurm.conf"
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munged = ["munged", "-F", "--force", *(f"--{option}={folder}/munge.{name}" for option, name in files.items())]
    environment = os.environ | {"PATH": f"{SBIN}:{os.environ['PATH']}", "SLURM_CONF": str(config)}
    with contextlib.ExitStack() as stack, (folder / "log").open("w") as log:
        for command in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D"]):
            server = stack.enter_context(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            stack.callback(server.terminate)
            time.sleep(1)
            assert server.poll() is None, (folder / "log").read_text()
        stack.callback(subprocess.run, ["scancel", "--full", "--signal=KILL", f"--user={user}"], env=environment)
        yield config


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _s3_client(endpoint: str):
    keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
