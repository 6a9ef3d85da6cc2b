"""Storage servers on the loopback interface: sshd with keys of its own, and S3."""

import contextlib
import os
import pwd
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

SSHD = Path("/usr/sbin/sshd")
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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
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
            _wait_for(int(port), server, folder / "log")
            user = pwd.getpwuid(os.geteuid()).pw_name
            settings = {"user": user, "keyfile": str(folder / "user_key")}
            yield Remote(f"ssh://127.0.0.1:{port}{folder}/storage", settings, folder / "storage")
        finally:
            server.terminate()


@contextlib.contextmanager
def s3() -> Iterator[Remote]:
    """Start an S3 server in this process, with one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    try:
        _s3_client(endpoint).create_bucket(Bucket="bucket")
        settings = {"endpointurl": endpoint, "access_key_id": KEY_ID, "secret_access_key": SECRET}
        yield Remote("s3://bucket/oneword", settings)
    finally:
        server.stop()


def _s3_client(endpoint: str):
    keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)


def _wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    for _ in range(200):
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"sshd does not listen on {port}:\n{log.read_text()}")
