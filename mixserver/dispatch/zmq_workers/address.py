"""Addresses of ZeroMQ: what may be bound, the file of a bound ipc socket, and error messages."""

from __future__ import annotations

import contextlib
import errno
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq

from mixserver.core.errors import ConfigError

_IPC: Final = "ipc://"
DOOR: Final = "workers.door"
"""The key of mix.toml with the address of the workers' listener."""


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file of a bound ipc address, which ZeroMQ does not remove."""

    path: Path | None
    inode: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, address: str) -> SocketFile:
        """The file of an address that was just bound; no file for tcp."""
        if not address.startswith(_IPC):
            return cls(None)
        path = Path(address.removeprefix(_IPC))
        try:
            seen = path.lstat()
        except OSError:
            return cls(None)
        return cls(path, (seen.st_dev, seen.st_ino))

    def remove(self) -> None:
        """Remove it, unless it is gone or belongs to another program by now."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            seen = self.path.lstat()
            if (seen.st_dev, seen.st_ino) == self.inode:
                self.path.unlink()


def check_socket_path(address: str, setting: str = DOOR) -> None:
    """Refuse an ipc path that is in use: ZeroMQ would remove the file or socket that has it.

    Args:
        address: to be bound.
        setting: the key of mix.toml that it comes from, for messages.

    Raises:
        ConfigError: a file, or the socket of a running program, has this path.
    """
    if not address.startswith(_IPC):
        return
    path = Path(address.removeprefix(_IPC))
    try:
        kind = path.lstat().st_mode
    except OSError:
        return  # nothing is there, or binding reports the error
    if not stat.S_ISSOCK(kind):
        raise ConfigError(
            f"{setting} = {address!r}: {path} exists and is not a socket; binding would "
            "remove it. Choose another path, or move it away yourself."
        )
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        raise ConfigError(_in_use(address, setting))


def bind_error(address: str, error: zmq.ZMQError, setting: str = DOOR) -> str:
    """Why an address could not be bound, for the user."""
    if error.errno == errno.EADDRINUSE:
        return _in_use(address, setting)
    return (
        f"{setting} = {address!r} cannot be bound: {error.strerror}. Expected "
        "tcp://HOST:PORT with an address of this machine (or tcp://*:PORT for all), or ipc://PATH."
    )


def _in_use(address: str, setting: str) -> str:
    return (
        f"{setting} = {address!r} is in use by another program. Stop it, or choose another "
        "address (tcp://127.0.0.1:0 picks a free port)."
    )
