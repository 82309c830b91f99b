"""Binding the address of stock i-PI clients: a unix socket's file, or a port."""

from __future__ import annotations

import os
import socket
import stat
from typing import Any, Final

import structlog

from mixserver.core.errors import ConfigError
from mixserver.wire.address import Address

log = structlog.get_logger(__name__)

_BACKLOG: Final = 16


def bind(address: Address) -> socket.socket:
    """Listen at an address; the file of a unix socket without a listening program is replaced.

    Raises:
        ConfigError: another program listens there already, or it cannot be bound.
    """
    if address.unix:
        _clear(address)
        listener = socket.socket(socket.AF_UNIX)
        where: Any = address.path
    else:
        try:
            found = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise ConfigError(f"cannot find the host of {address}: {error}") from error
        family, _, _, _, where = found[0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.setblocking(False)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen at {address} for i-PI clients: {error.strerror}. Choose another "
            "workers.clients, or end the process that has it."
        ) from error
    return listener


def _clear(address: Address) -> None:
    try:
        kind = os.stat(address.path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"{address} exists and is not a socket; choose another workers.clients")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            log.info("stale socket removed", file=address.path)
            os.unlink(address.path)
            return
        except OSError:
            pass  # its backlog is full: a program is there
    raise ConfigError(
        f"another program listens at {address} already (mixserver or i-PI); choose another "
        "workers.clients"
    )
