"""Why a connection to a server does not come about: keys that do not fit, told by its monitor."""

from __future__ import annotations

import logging
import struct
from typing import Any, Final

import zmq

from mixserver.core.errors import ConfigError

log = logging.getLogger(__name__)

_EVENT: Final = struct.Struct("=Hi")
_AUTH: Final = zmq.EVENT_HANDSHAKE_FAILED_AUTH
_PROTOCOL: Final = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_CLOSED: Final = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_REPORT_AFTER: Final = 3
"""Handshakes that fail in a row: one alone may be a server that was just ended."""


class Handshake:
    """Follows the handshakes of one connecting socket after another.

    Args:
        server: its address, for messages.
        with_keys: whether this worker uses keys.
    """

    def __init__(self, server: str, *, with_keys: bool) -> None:
        self._server = server
        self._with_keys = with_keys
        self._socket: zmq.Socket[Any] | None = None
        self._monitor: zmq.Socket[Any] | None = None
        self._closed = 0
        self._warned = False

    @property
    def monitor(self) -> zmq.Socket[Any]:
        """Becomes readable when there is something to check."""
        if self._monitor is None:
            raise RuntimeError("no socket is followed yet")
        return self._monitor

    def follow(self, socket: zmq.Socket[Any]) -> None:
        """Follow a socket that will connect."""
        events = _AUTH | _PROTOCOL | _CLOSED | zmq.EVENT_HANDSHAKE_SUCCEEDED
        self._socket, self._monitor = socket, socket.get_monitor_socket(events)

    def close(self) -> None:
        """Follow it no longer; call it before the socket is closed."""
        if self._socket is not None and self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
        self._socket = self._monitor = None

    def check(self) -> None:
        """Read what has happened.

        Raises:
            ConfigError: this worker can never join as it was started.
        """
        while self._monitor is not None:
            try:
                frames = self._monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            kind, value = _EVENT.unpack(frames[0])
            if kind == _AUTH:
                raise ConfigError(
                    f"the server at {self._server} refused this worker's key: it is not, or no "
                    "longer, on its list (on the server's machine: mixserver keys list)"
                )
            if kind == _PROTOCOL and value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                raise ConfigError(
                    f"the server at {self._server} lets in only workers with keys: give --key FILE "
                    "(this worker's, from mixserver keys new NAME) and --server-key FILE (the "
                    "server's server.pub)"
                )
            self._closed = 0 if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED else self._closed + 1
            if self._closed >= _REPORT_AFTER and not self._warned:
                self._warned = True
                log.warning(
                    "the program at %s ends every connection in the handshake%s. Still trying",
                    self._server,
                    self._hint(),
                )

    def _hint(self) -> str:
        if self._with_keys:
            return ": is --server-key the public key of that server, and does it use keys at all?"
        if self._server.startswith("ipc://"):
            return ": it lets in programs of its own user only, and root"
        return ": it may let in programs of its own user only (see its server.log)"
