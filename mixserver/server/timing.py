"""How long an evaluation took, and how much of that it waited for workers; all in seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from mixserver.dispatch.batch import Batch, JobResult
from mixserver.mixing.jobs import JobKey


@dataclass(slots=True)
class Timing:
    """The time of one evaluation, or of work shared by several, on the event loop's clock."""

    started: float = field(default_factory=time.monotonic)
    waiting: float = 0.0
    """Seconds in which there was nothing to do but wait."""
    busy: list[tuple[float, float]] = field(default_factory=list)
    """From when to when the server itself worked, where the work is shared."""
    last_result: float = 0.0
    """When nothing was missing any more, where the work is shared."""

    async def gather(self, batch: Batch) -> dict[JobKey, JobResult]:
        """Wait for a batch's results, when the server has nothing else to do; count the wait.

        It lasts until the last result came in. What the server does after that is its own time.
        """
        idle = time.monotonic()
        results: dict[JobKey, JobResult] = await batch.gather()
        self.waiting += max(0.0, batch.last_result - idle)
        return results

    def wait_for(self, shared: Iterable[Timing], since: float) -> None:
        """Count the wait for shared work that began at `since`, without what was busy."""
        pieces = list(shared)
        until = max(piece.last_result for piece in pieces)
        own = sum(
            max(0.0, min(end, until) - max(begin, since))
            for piece in pieces
            for begin, end in piece.busy
        )
        self.waiting += max(0.0, until - since - own)

    @property
    def total(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started
