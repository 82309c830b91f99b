"""Whether ZeroMQ can and may bind an address, and in words why it cannot."""

from __future__ import annotations

import contextlib
import errno
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq

from mixserver.errors import ConfigError

_IPC: Final = "ipc://"


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file of a bound ipc address, which ZeroMQ does not remove."""

    path: Path | None
    inode: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, address: str) -> SocketFile:
        """The file of an address that was just bound; none for tcp."""
        if not address.startswith(_IPC):
            return cls(None)
        path = Path(address.removeprefix(_IPC))
        try:
            seen = path.lstat()
        except OSError:
            return cls(None)
        return cls(path, (seen.st_dev, seen.st_ino))

    def remove(self) -> None:
        """Remove it, unless it is gone or another program's by now."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            seen = self.path.lstat()
            if (seen.st_dev, seen.st_ino) == self.inode:
                self.path.unlink()


def refuse_stolen(address: str) -> None:
    """ZeroMQ would remove whatever has an ipc path: a file, or the socket of a living server.

    Raises:
        ConfigError: there is something that must not be removed.
    """
    if not address.startswith(_IPC):
        return
    path = Path(address.removeprefix(_IPC))
    try:
        kind = path.lstat().st_mode
    except OSError:
        return  # nothing is there, or binding will say what is wrong
    if not stat.S_ISSOCK(kind):
        raise ConfigError(
            f"workers.door = {address!r}: {path} exists and is no socket, and binding would remove "
            "it. Choose another path, or move it away yourself."
        )
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        raise ConfigError(_in_use(address))


def why_not(address: str, error: zmq.ZMQError) -> str:
    """What to tell a person about an address that could not be bound."""
    if error.errno == errno.EADDRINUSE:
        return _in_use(address)
    return (
        f"workers.door = {address!r} cannot be bound: {error.strerror}. Expected "
        "tcp://HOST:PORT with an address of this machine (or tcp://*:PORT for all), or ipc://PATH."
    )


def _in_use(address: str) -> str:
    return (
        f"workers.door = {address!r} is in use by another program. Stop it, or choose another "
        "address (tcp://127.0.0.1:0 picks a free port)."
    )
