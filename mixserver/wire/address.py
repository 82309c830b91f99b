"""Where sockets lie: "unix:NAME" or "HOST:PORT" for i-PI's kind, ZeroMQ's own. Opens nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mixserver.errors import ConfigError

SOCKETS_PREFIX: Final = "/tmp/ipi_"  # noqa: S108 - i-PI's own default
"""What i-PI, LAMMPS and ASE put before the name of a unix socket."""

_LONGEST_PATH: Final = 107


@dataclass(frozen=True, slots=True)
class Address:
    """A unix socket (`path`) or a TCP port (`host`, `port`)."""

    path: str = ""
    """File of a unix socket; "" for TCP."""
    host: str = ""
    port: int = 0

    @property
    def unix(self) -> bool:
        """Whether it is a unix socket."""
        return bool(self.path)

    def __str__(self) -> str:
        if self.unix:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, sockets_prefix: str = SOCKETS_PREFIX) -> Address:
    """Read "unix:NAME", "HOST:PORT" or "[IPV6]:PORT".

    Args:
        text: the address as the user wrote it.
        sockets_prefix: put before NAME; NAME may also be an absolute path, then it is left out.

    Raises:
        ConfigError: it is none of the three, or the path is too long for a unix socket.
    """
    scheme, found, name = text.partition(":")
    if scheme == "unix" and found:
        if not name or "\0" in name or ("/" in name and not name.startswith("/")):
            raise ConfigError(
                f"{text!r} names no unix socket; expected unix:NAME, for the file "
                f"{sockets_prefix}NAME (NAME as in i-PI's <address>)"
            )
        path = name if name.startswith("/") else sockets_prefix + name
        if len(path.encode()) > _LONGEST_PATH:
            raise ConfigError(
                f"the unix socket {path} has a path of {len(path.encode())} bytes; the system "
                f"takes {_LONGEST_PATH}. Use a shorter name or sockets_prefix."
            )
        return Address(path=path)
    host, found, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = _port(port)
    if not found or not host or number is None:
        raise ConfigError(
            f"{text!r} is no address; expected unix:NAME or HOST:PORT (port 0 to 65535), e.g. "
            "unix:silicon or localhost:31415"
        )
    return Address(host=host, port=number)


def checked_door(text: str) -> str:
    """Refuse an address of mixserver's own workers that ZeroMQ could not bind.

    Raises:
        ConfigError: it is neither tcp://HOST:PORT nor ipc://PATH, the port is above 65535, or the
            path too long for a unix socket.
    """
    scheme, found, rest = text.partition("://")
    host, colon, port = rest.rpartition(":")
    if scheme == "ipc" and found and rest:
        if len(rest.encode()) > _LONGEST_PATH:
            raise ConfigError(
                f"workers.door = {text!r} has a path of {len(rest.encode())} bytes; the system "
                f"takes {_LONGEST_PATH}. Choose a shorter one, in /tmp for instance"
            )
        return text
    if scheme == "tcp" and colon and host and (port == "*" or _port(port) is not None):
        return text
    raise ConfigError(
        f"workers.door = {text!r} is no address; expected tcp://HOST:PORT (port 0 to 65535; 0 "
        "picks a free one) or ipc://PATH"
    )


def _port(text: str) -> int | None:
    """The number of a port; None if it is none."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1
    return number if 0 <= number <= 65535 else None
