"""Answers questions about the status, on a socket of its own. Nothing is computed until asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from mixserver.core.errors import InternalError, ProtocolError
from mixserver.dispatch.zmq_workers.lock import ZmqLock
from mixserver.dispatch.zmq_workers.router import ZmqRouter
from mixserver.server.status.place import SETTING
from mixserver.wire import Bytes
from mixserver.wire.status import (
    MOST_ANSWER,
    STATUS_VERSION,
    Status,
    StatusRefused,
    decode_query,
    encode,
)

log = structlog.get_logger(__name__)

_FRESH_S: Final = 0.1
"""An answer that is not older is given again: many questions cost no more than a few."""
_MOST_WAITING: Final = 256
"""Questions that wait for one snapshot; more are not answered."""
_LINGER_MS: Final = 100
_MOST_SENT: Final = 1 << 12
"""Bytes that a peer may send at once: a question, or a step of the handshake of CURVE."""
_LIST_S: Final = 1.0
"""Seconds between two looks at the list of keys."""


class StatusListener:
    """Answers whoever may connect.

    Args:
        address: "tcp://HOST:PORT" (port 0 picks a free one) or "ipc://PATH".
        snapshot: the status now.
        lock: lets in only keys of its list; None lets everybody in.
    """

    def __init__(
        self, address: str, snapshot: Callable[[], Awaitable[Status]], lock: ZmqLock | None = None
    ) -> None:
        self._snapshot = snapshot
        self._lock = lock
        self._router = ZmqRouter(
            address,
            max_frame=_MOST_SENT,
            max_message=_MOST_SENT,
            must_join=False,
            lock=lock,
            handle=self._receive,
            clock=time.monotonic,
            setting=SETTING,
        )
        self._waiting: list[bytes] = []
        self._answering: asyncio.Task[None] | None = None
        self._latest = b""
        self._latest_at = 0.0

    @property
    def address(self) -> str:
        """The bound address, once `open` has returned."""
        return self._router.address

    async def open(self) -> None:
        """Bind the address, and answer from now on.

        Raises:
            ConfigError: the address is malformed or in use.
        """
        await self._router.open()

    async def close(self) -> None:
        """Release the address."""
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.gather(self._answering, return_exceptions=True)
        await self._router.close(_LINGER_MS)

    def _receive(self, identity: bytes, user: str, frames: Sequence[Bytes]) -> None:
        if self._lock is not None:
            self._lock.refresh(_LIST_S)
            if self._lock.name(user) is None:  # revoked since it connected
                self._router.end(identity)
                return
        try:
            query = decode_query(frames)
            if query.version != STATUS_VERSION:
                raise ProtocolError(
                    f"this server speaks version {STATUS_VERSION} of the status, you asked for "
                    f"{query.version}; use the mixserver that it runs"
                )
        except ProtocolError as error:
            self._send(identity, encode(StatusRefused(version=STATUS_VERSION, reason=str(error))))
            return
        if time.monotonic() - self._latest_at < _FRESH_S:
            self._send(identity, self._latest)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(identity)
            if self._answering is None:
                self._answering = asyncio.ensure_future(self._answer())

    async def _answer(self) -> None:
        """Take one snapshot and send it to all who wait."""
        try:
            frame = encode(await self._snapshot())
            if len(frame) > MOST_ANSWER:
                raise ProtocolError(f"the status takes {len(frame)} bytes, more than {MOST_ANSWER}")
            self._latest, self._latest_at = frame, time.monotonic()
        except Exception as error:
            # a status that cannot be given must not disturb the run
            log.exception("no status could be given", error=str(InternalError.of(error)))
            frame = encode(StatusRefused(version=STATUS_VERSION, reason=f"it failed: {error}"))
        finally:
            waiting, self._waiting, self._answering = self._waiting, [], None
        for identity in waiting:
            self._send(identity, frame)

    def _send(self, identity: bytes, frame: bytes) -> None:
        self._router.send(identity, [frame], may_be_lost=True)
