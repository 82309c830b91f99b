"""Which connection of a ZeroMQ listener is which worker, and who asks to join right now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Peer:
    """One connection of an accepted worker, or of one that asks to join."""

    identity: bytes
    process: str
    user: str = ""
    """The key that let it in; "" without a lock."""


class Peers:
    """Connections by worker name and by ZeroMQ identity."""

    def __init__(self) -> None:
        self._by_name: dict[str, Peer] = {}
        self._names: dict[bytes, str] = {}
        self._newcomer: tuple[str, Peer] | None = None

    def __iter__(self) -> Iterator[tuple[str, Peer]]:
        """A snapshot of all accepted workers."""
        return iter(list(self._by_name.items()))

    def get(self, worker: str) -> Peer | None:
        """The connection of an accepted worker."""
        return self._by_name.get(worker)

    def name(self, identity: bytes) -> str | None:
        """The name of the accepted worker at a connection."""
        return self._names.get(identity)

    def consider(self, worker: str, peer: Peer) -> None:
        """A worker asks to join; the present owner of its name keeps it until it is accepted."""
        self._newcomer = worker, peer

    def take_newcomer(self, worker: str) -> Peer | None:
        """The connection of the worker that asks to join, if it has this name; only once."""
        if self._newcomer is None or self._newcomer[0] != worker:
            return None
        peer, self._newcomer = self._newcomer[1], None
        return peer

    def end_consideration(self) -> None:
        """The decision about the newcomer was made, or put off."""
        self._newcomer = None

    def add(self, worker: str, peer: Peer) -> Peer | None:
        """Accept a worker; returns the connection that had its name until now, if another."""
        before = self._by_name.get(worker)
        if before is not None and before.identity != peer.identity:
            self._names.pop(before.identity, None)
        self._by_name[worker] = peer
        self._names[peer.identity] = worker
        return before if before is not None and before.identity != peer.identity else None

    def remove(self, worker: str) -> None:
        """Forget a worker."""
        peer = self._by_name.pop(worker, None)
        if peer is not None:
            self._names.pop(peer.identity, None)

    def clear(self) -> None:
        """Forget all workers."""
        self._by_name.clear()
        self._names.clear()
