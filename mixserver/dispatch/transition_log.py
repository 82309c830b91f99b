"""The scheduler's latest decisions in a bounded ring, to be queried after the fact.

Recording costs one append per decision (below 1 us); results and arrays are not kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from mixserver.dispatch.scheduling.actions import Action, AssignJob, CompleteJob, FailJob

_SIZE: Final = 4096
PER_JOB: Final = (AssignJob, CompleteJob)
"""Actions that come with every evaluation."""
_SHOWN: Final = 8
"""Transitions of a job that a message quotes."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One decision of the scheduler."""

    time: float
    """Seconds on the dispatcher's clock."""
    action: str
    """The name of the action, e.g. "AssignJob"."""
    worker: str = ""
    job: int | None = None
    reason: str = ""

    def __str__(self) -> str:
        words = (self.action, self.worker, self.reason and f"({self.reason})")
        return " ".join(filter(None, words))


class TransitionLog:
    """The latest transitions of a run.

    Args:
        size: how many are kept.
    """

    def __init__(self, size: int = _SIZE) -> None:
        self._ring: deque[tuple[float, str, str, int | None, str]] = deque(maxlen=size)
        self.append = self._ring.append
        """Appends the fields of a `Transition`: the quick way, for actions of every job."""

    def record(self, action: Action, now: float) -> None:
        """Append a decision."""
        if isinstance(action, PER_JOB):  # these come with every evaluation
            self._ring.append((now, action.__class__.__name__, action.worker, action.job, ""))
            return
        worker, job = getattr(action, "worker", ""), getattr(action, "job", None)
        reason = getattr(action, "reason", "")
        self._ring.append((now, type(action).__name__, worker, job, reason))

    def select(self, *, worker: str | None = None, job: int | None = None) -> list[Transition]:
        """Transitions of a worker or a job, or all, oldest first."""
        return [
            Transition(*entry)
            for entry in self._ring
            if (worker is None or entry[2] == worker) and (job is None or entry[3] == job)
        ]

    def describe(self, job: int) -> str:
        """The latest transitions of a job in one line, times relative to its assignment."""
        steps = [step for step in self.select(job=job) if step.action != FailJob.__name__]
        return "; ".join(f"{s.time - steps[0].time:.1f} s: {s}" for s in steps[-_SHOWN:])
