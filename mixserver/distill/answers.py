"""Telling that something goes on where nobody knows how many questions there will be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mixserver.crystal.asking import Ask, Label
from mixserver.frame import Frame

Show = Callable[[str, int, int], None]
"""Told (step, done, total); a total of 0 is not known."""

_EVERY: Final = 10
_AT_ONCE: Final = 64
"""Questions in flight: more than any pool of workers answers at a time."""


class Answers:
    """Counts answers, and shows their number now and then.

    Args:
        show: told ("STEP, answers", so many, 0).
        step: what they are for.
    """

    def __init__(self, show: Show, step: str) -> None:
        self._show, self._name = show, f"{step}, answers"
        self.count = 0

    def one(self) -> None:
        """There was another one."""
        self.count += 1
        if self.count % _EVERY == 0:
            self._show(self._name, self.count, 0)


def telling(ask: Ask, told: Callable[[], None]) -> Ask:
    """The same model, asked a few questions at a time; `told` is called after each answer.

    Thousands at once, as crystals of large cells want them, would keep the server from its workers,
    and from telling how far it is.
    """
    room = asyncio.Semaphore(_AT_ONCE)

    async def answered(frame: Frame) -> Label:
        async with room:
            label = await ask(frame)
        told()
        return label

    return answered
