"""Waiting for the first worker of a role, whose model card describes the model of the run."""

from __future__ import annotations

import asyncio

from mixserver.wire.worker import ModelCard, Role


class ModelCards:
    """Model cards by role, to wait for. A card outlives its worker: all have the same model."""

    def __init__(self) -> None:
        self._cards: dict[Role, ModelCard] = {}
        self._waiting: dict[Role, set[asyncio.Future[ModelCard]]] = {}

    def add(self, role: Role, card: ModelCard) -> None:
        """A worker of a role was accepted."""
        card = self._cards.setdefault(role, card)
        for future in self._waiting.get(role, ()):
            if not future.done():
                future.set_result(card)

    def get(self, role: Role) -> ModelCard | None:
        """The card of a role, if a worker was accepted."""
        return self._cards.get(role)

    def fail(self, error: Exception) -> None:
        """No worker will be accepted any more."""
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    async def wait(self, role: Role, timeout_s: float | None) -> ModelCard:
        """The card of a role's model, once its first worker is accepted.

        Raises:
            TimeoutError: none was accepted in time.
        """
        if (card := self._cards.get(role)) is not None:
            return card
        future: asyncio.Future[ModelCard] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(role, set())
        waiting.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            waiting.discard(future)
