"""All listeners of a dispatcher as one: which of them a worker is connected to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from mixserver.dispatch.scheduling.events import Listener, WorkerEvent, WorkerJoined
from mixserver.wire.worker import Evaluate, Role


class ListenerGroup:
    """Routes jobs and decisions to the listener of each worker.

    Args:
        listeners: opened and closed together.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)
        self._by_worker: dict[str, Listener] = {}
        self._joining: tuple[str, Listener] | None = None
        """The worker that asks to join right now, and its listener."""

    @property
    def addresses(self) -> list[str]:
        """Where workers connect."""
        return [listener.address for listener in self._listeners]

    async def open(self, report: Callable[[Listener, WorkerEvent], None]) -> None:
        """Open all listeners.

        Raises:
            ConfigError: an address is malformed or in use; no listener is left open.
        """
        async with contextlib.AsyncExitStack() as opened:
            for listener in self._listeners:
                await listener.open(report)
                opened.push_async_callback(listener.close, "another address could not be bound")
            opened.pop_all()

    async def close(self, reason: str) -> None:
        """Close all listeners, each even if another one fails."""
        async with contextlib.AsyncExitStack() as closing:
            for listener in reversed(self._listeners):
                closing.push_async_callback(listener.close, reason)

    def admits(self, listener: Listener, event: WorkerEvent) -> bool:
        """Whether an event counts: its worker is connected to that listener, or asks to join."""
        if isinstance(event, WorkerJoined):
            self._joining = event.worker, listener
            return True
        return self._by_worker.get(event.worker) is listener

    def accept(self, worker: str) -> None:
        """Welcome a worker that joined."""
        self._by_worker[worker] = self._of_newcomer(worker)
        self._by_worker[worker].welcome(worker)

    def reject(self, worker: str, reason: str) -> None:
        """Reject a worker that asked to join."""
        self._of_newcomer(worker).drop(worker, reason)

    def send(self, worker: str, job: Evaluate) -> None:
        """Send a job to a worker."""
        self._by_worker[worker].send(worker, job)

    def drop(self, worker: str, reason: str) -> None:
        """Disconnect a worker at fault."""
        self._by_worker[worker].drop(worker, reason)

    def forget(self, worker: str) -> None:
        """A worker is no longer connected."""
        self._by_worker.pop(worker, None)

    def start_command(self, role: Role) -> str:
        """How to start a worker of a role, for messages."""
        addresses = " or ".join(a for a in self.addresses if "://" in a) or "ADDRESS"
        own = f"mixserver-worker ENGINE --server {addresses} --role {role}"
        stock = [d.address for d in self._listeners if getattr(d, "role", None) == role]
        if not stock:
            return own
        return f"{own}, or a stock i-PI client at {' or '.join(stock)} (LAMMPS: fix ipi)"

    def _of_newcomer(self, worker: str) -> Listener:
        if self._joining is not None and self._joining[0] == worker:
            return self._joining[1]
        return self._by_worker[worker]
