"""Opens and configures a socket to i-PI."""

from __future__ import annotations

import socket
from typing import Final

from mixserver.wire.address import Address

_CONNECT_S: Final = 5.0
_BUFFER: Final = 8 << 20
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 8}
"""A host that disappeared is detected after three minutes."""


def open_connection(address: Address) -> socket.socket:
    """Connect to an address; the socket is non-blocking.

    Raises:
        OSError: no program listens there.
    """
    if address.unix:
        connection = socket.socket(socket.AF_UNIX)
        # TCP grows its window by itself, and stops doing so once this is set.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        connection.setblocking(False)
        try:
            connection.connect(address.path)
        except BaseException:
            connection.close()
            raise
        return connection
    connection = socket.create_connection((address.host, address.port), _CONNECT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():  # the system's default is two hours
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    connection.setblocking(False)
    return connection
