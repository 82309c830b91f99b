"""Telling that something goes on where nobody knows how many questions there will be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mixserver.crystal.asking import Ask, Label
from mixserver.frame import Frame

Show = Callable[[str, int, int], None]
"""Told (step, done, total); a total of 0 is not known."""

_EVERY: Final = 10


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

    def counting(self, ask: Ask) -> Ask:
        """The same model, with its answers counted."""

        async def counted(frame: Frame) -> Label:
            label = await ask(frame)
            self.one()
            return label

        return counted
