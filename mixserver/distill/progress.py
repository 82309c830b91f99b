"""Progress of a distillation: the protocol, and a counter for steps of unknown length."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from mixserver.analysis.bulk.evaluate import EvaluateFn, EvaluationResult
from mixserver.core.frame import Frame

_REPORT_EVERY: Final = 10
_IN_FLIGHT: Final = 64
"""Evaluations submitted at a time: more than any pool of workers computes at once."""


class Progress(Protocol):
    """Called with the name of a step, how much is done, and the total (0 if it is unknown)."""

    def __call__(self, step: str, done: int, total: int, /) -> None:  # noqa: D102
        ...


StepProgress: TypeAlias = Callable[[int, int], None]
"""The same for one step: (done, total)."""


class EvaluationCounter:
    """Counts evaluations whose number is unknown, and reports every tenth as "STEP, answers"."""

    def __init__(self, progress: Progress, step: str) -> None:
        self._progress, self._name = progress, f"{step}, answers"
        self._count = 0

    def counted(self, evaluate: EvaluateFn) -> EvaluateFn:
        """The same model with its results counted and few evaluations in flight.

        The thousands at once that crystals with large cells need would keep the server from its
        workers and from reporting progress.
        """
        slots = asyncio.Semaphore(_IN_FLIGHT)

        async def limited(frame: Frame) -> EvaluationResult:
            async with slots:
                result = await evaluate(frame)
            self._count += 1
            if self._count % _REPORT_EVERY == 0:
                self._progress(self._name, self._count, 0)
            return result

        return limited
