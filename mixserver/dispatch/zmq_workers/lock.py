"""CURVE on the listening sockets of one ZeroMQ context: only keys on a list get past the handshake.

libzmq encrypts, and asks over an inproc socket (ZAP, RFC 27) whether a client's public key may
connect. The answer comes from the list of keys, which is read again whenever its files change. The
socket's messages carry the key that was let in as their "User-Id".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
import zmq
from zmq.utils import z85

from mixserver.core.key_folder import KeyFolder
from mixserver.core.keys import KeyPair
from mixserver.dispatch.event_log import LogThrottle
from mixserver.dispatch.zmq_workers.allow_list import AllowList
from mixserver.wire.worker import Hello

log = structlog.get_logger(__name__)

_ENDPOINT: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = b"mixserver"
_QUIET_S: Final = 600.0
"""A key that is refused is logged this seldom: its program tries again every few seconds."""


class ZmqLock:
    """Decides who may connect. One for each context; its sockets need not know more.

    Args:
        folder: the folder of keys; see `KeyFolder`.
        clock: seconds that never go backwards.

    Raises:
        ConfigError: the server has no key there, or others can read it.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        keys = KeyFolder(folder)
        self._pair = keys.server_pair()
        self._allowed = AllowList(keys.workers, clock)
        self._issued: dict[bytes, str] = {}
        self._throttle = LogThrottle(clock, interval_s=_QUIET_S)
        self._zap: zmq.Socket[bytes] | None = None

    @property
    def public(self) -> bytes:
        """The server's public key."""
        return self._pair.public

    def issue(self, name: str) -> KeyPair:
        """A key for programs that this process starts, which ends with it."""
        pair = KeyPair.new()
        self._issued[pair.public] = name
        return pair

    def name(self, user: str) -> str | None:
        """The name of the key that let a connection in; None if it is not on the list any more.

        Args:
            user: the "User-Id" of its messages.
        """
        public = user.encode("ascii", "replace")
        return self._issued.get(public) or self._allowed.name(public)

    def role_error(self, hello: Hello, user: str) -> str:
        """Why a worker with a key cannot have the role it asks for; "" if it can."""
        public = user.encode("ascii", "replace")
        key = None if public in self._issued else self._allowed.name(public)
        only = "" if key is None else self._allowed.role(key)
        if only in ("", hello.role):
            return ""
        return (
            f"worker {hello.name} asks for the role {hello.role!r}, but its key {key} is for "
            f"{only!r} only: start it with --role {only}, or with another key (mixserver keys list "
            "shows them)"
        )

    def reserved_for(self, worker: str) -> str | None:
        """The key to which a worker's name belongs, if there is one of that name."""
        return worker if worker in self._allowed.names() else None

    def refresh(self, every_s: float = 0.0) -> bool:
        """Read the list again if its files have changed; returns whether it has changed."""
        return self._allowed.refresh(every_s)

    def secure(self, socket: zmq.Socket[Any]) -> None:
        """Encrypt and authenticate a socket that will be bound; call it before `bind`."""
        socket.curve_server = True
        socket.curve_publickey = self._pair.public
        socket.curve_secretkey = self._pair.secret
        socket.zap_domain = _DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without an open lock nobody gets in

    def open(self, context: zmq.Context[Any]) -> None:
        """Answer libzmq's questions on the running event loop from now on."""
        self._zap = context.socket(zmq.ROUTER, socket_class=zmq.Socket)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._zap.bind(_ENDPOINT)
        loop = asyncio.get_running_loop()
        loop.add_reader(int(self._zap.getsockopt(zmq.FD)), self._answer)
        loop.call_soon(self._answer)

    def close(self) -> None:
        """Let no more connections in; the context can end then."""
        zap, self._zap = self._zap, None
        if zap is not None:
            asyncio.get_running_loop().remove_reader(int(zap.getsockopt(zmq.FD)))
            zap.close(linger=0)

    def _answer(self) -> None:
        """Answer all questions. The descriptor signals edges, so read until nothing is left."""
        while self._zap is not None:
            try:
                frames = self._zap.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            session, _, version, request, domain, address, _, mechanism, *credentials = frames
            user = b""
            if (version, domain, mechanism) == (b"1.0", _DOMAIN, b"CURVE") and credentials:
                user = self._user(credentials[0], address)
            verdict = (b"200", b"OK", user) if user else (b"400", b"key not on the list", b"")
            self._zap.send_multipart([session, b"", version, request, *verdict, b""])

    def _user(self, key: bytes, address: bytes) -> bytes:
        """The key in text form if it may connect, else nothing."""
        public = bytes(z85.encode(key)) if len(key) == 32 else b""
        self._allowed.refresh()
        if public in self._issued or self._allowed.name(public) is not None:
            return public
        suppressed = self._throttle(public)
        if suppressed is not None:
            log.warning(
                "connection refused: its key is not on the list",
                key=public.decode("ascii"),
                address=address.decode("ascii", "replace"),
                list=str(self._allowed.folder),
                **({"suppressed": suppressed} if suppressed else {}),
            )
        return b""
