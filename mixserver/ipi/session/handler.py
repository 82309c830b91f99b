"""Handles the events of one connection, on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mixserver.ipi.session.connection import IpiConnection
from mixserver.ipi.session.events import (
    Connected,
    Disconnected,
    ForcesRequested,
    SessionEvent,
    ThreadEnded,
)
from mixserver.ipi.session.repeated_requests import PendingEvaluations


class ConnectionHandler:
    """Handles the events of one connection: `evaluate` starts evaluations, `pending` keeps them.

    `connected` is called whenever i-PI is connected, with `Connected.absent`.
    """

    connection: IpiConnection

    def __init__(
        self,
        evaluate: Callable[[ConnectionHandler, ForcesRequested], None],
        pending: PendingEvaluations,
        connected: Callable[[bool], None],
    ) -> None:
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Once the connection has ended: whether i-PI sent EXIT; or the error that ended it."""
        self.timeouts_in_a_row = 0
        """How often its requests took too long since one was answered."""
        self.thread_ended = asyncio.Event()
        self.thread_ended.set()
        self._evaluate = evaluate
        self._pending = pending
        self._connected = connected

    def open(self) -> None:
        """Begin to connect."""
        self.connection.start()
        self.thread_ended.clear()

    def handle(self, event: SessionEvent) -> None:
        """Act on an event."""
        match event:
            case Connected(absent):
                self._connected(absent)
            case ForcesRequested() if not self.over.done():
                self._evaluate(self, event)
            case Disconnected(_, impatient):
                self._pending.connection_lost(self.connection, impatient=impatient)
            case ThreadEnded(exited, error):
                self.thread_ended.set()
                self._pending.connection_closed(self.connection)
                if error is not None:
                    self.fail(error)
                elif not self.over.done():
                    self.over.set_result(exited)

    def fail(self, error: BaseException) -> None:
        """End the session with an error."""
        if not self.over.done():
            self.over.set_exception(error)

    def close(self) -> None:
        """Cancel what is still being evaluated."""
        self.over.cancel()
        self._pending.connection_closed(self.connection)
