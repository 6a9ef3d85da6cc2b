"""Run by every Python that has this folder on its path: a connection to anything but this machine is an error."""

import socket

_connect = socket.socket.connect


def _connect_here_only(self: socket.socket, address: object) -> None:
    here = self.family == socket.AF_UNIX or (
        isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1", "localhost")
    )
    if not here:
        raise OSError(f"the tests allow no network: {address}")
    _connect(self, address)


socket.socket.connect = _connect_here_only
