"""Parses socket addresses: i-PI's ("unix:NAME" or "HOST:PORT") and ZeroMQ's. Opens nothing."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from mixserver.core.errors import ConfigError

SOCKETS_PREFIX: Final = "/tmp/ipi_"  # noqa: S108 - i-PI's own default
"""What i-PI, LAMMPS and ASE put before the name of a unix socket."""

_LONGEST_PATH: Final = 107
_LONGEST_HOST: Final = 253


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
        sockets_prefix: put before NAME; it is left out if NAME is an absolute path.

    Raises:
        ConfigError: it has none of these forms, or the path is too long for a unix socket.
    """
    scheme, found, name = text.partition(":")
    if scheme == "unix" and found:
        if not name or "\0" in name or ("/" in name and not name.startswith("/")):
            raise ConfigError(
                f"{text!r} is not a unix socket; expected unix:NAME, for the file "
                f"{sockets_prefix}NAME (NAME as in i-PI's <address>)"
            )
        path = name if name.startswith("/") else sockets_prefix + name
        if (size := _size(path)) > _LONGEST_PATH:
            raise ConfigError(
                f"the unix socket {path} has a path of {size} bytes; the system takes "
                f"{_LONGEST_PATH}. Use a shorter name or sockets_prefix."
            )
        return Address(path=path)
    host, found, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = _port(port)
    if not found or not _is_host(host) or number is None:
        raise ConfigError(
            f"{text!r} is not an address; expected unix:NAME or HOST:PORT (port 0 to 65535), e.g. "
            "unix:silicon or localhost:31415"
        )
    return Address(host=host, port=number)


def check_worker_address(text: str, setting: str = "workers.door") -> str:
    """Refuse an address, of mixserver's own workers or the status, that ZeroMQ could not bind.

    Args:
        text: the address.
        setting: the key of mix.toml that it comes from, for messages.

    Raises:
        ConfigError: it is neither tcp://HOST:PORT nor ipc://PATH, the port is above 65535, or the
            path too long for a unix socket.
    """
    scheme, found, rest = text.partition("://")
    host, colon, port = rest.rpartition(":")
    if scheme == "ipc" and found and rest and "\0" not in rest:
        if (size := _size(rest)) > _LONGEST_PATH:
            raise ConfigError(
                f"{setting} = {text!r} has a path of {size} bytes; the system takes "
                f"{_LONGEST_PATH}. Choose a shorter one, in /tmp for instance"
            )
        return text
    if scheme == "tcp" and colon and _is_host(host) and (port == "*" or _port(port) is not None):
        return text
    raise ConfigError(
        f"{setting} = {text!r} is not an address; expected tcp://HOST:PORT (port 0 to 65535; 0 "
        "picks a free one) or ipc://PATH"
    )


def is_local_host(host: str) -> bool:
    """Whether a host is this machine's loopback, by its name alone."""
    return host in ("localhost", "::1") or host.startswith("127.")


def is_local(address: str) -> bool:
    """Whether only programs of this machine can reach an address.

    No name is looked up, so that a name other than "localhost" counts as another machine's. What is
    no address counts as local: whatever uses it reports the error.

    Args:
        address: "unix:NAME", "HOST:PORT", "[IPV6]:PORT", "ipc://PATH" or "tcp://HOST:PORT".
    """
    if address.startswith(("unix:", "ipc://", "inproc://")):
        return True
    host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if not colon or not host or (port != "*" and _port(port) is None):
        return True
    host = host.removeprefix("[").removesuffix("]")
    if host.lower() in {"localhost", "lo"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _size(path: str) -> int:
    """Bytes of the path of a unix socket.

    Raises:
        ConfigError: its name is not UTF-8, which neither i-PI nor ZeroMQ can open.
    """
    try:
        return len(path.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"the path {path!r} of a unix socket is not UTF-8; choose one that is"
        ) from error


def _is_host(text: str) -> bool:
    """Whether a text can be the name or number of a host: one that the system can look up."""
    if not 0 < len(text) <= _LONGEST_HOST or not text.isprintable() or " " in text:
        return False
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return True


def _port(text: str) -> int | None:
    """The number of a port; None if the text is not one."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1
    return number if 0 <= number <= 65535 else None
