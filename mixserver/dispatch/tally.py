"""Counts of what workers have done and of what has happened to them. Nothing depends on them.

An evaluated job costs two additions; everything else is rare.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mixserver.dispatch.scheduling.actions import (
    AcceptWorker,
    Action,
    DropWorker,
    FailJob,
    JobCopied,
    JobDisputed,
    RejectWorker,
    WorkerLost,
    WorkerOverdue,
)


@dataclass(slots=True)
class WorkerTally:
    """What was done under a worker's name; losing the connection does not reset it."""

    jobs: int = 0
    """Jobs whose results counted."""
    seconds: float = 0.0
    """From assignment to result, summed over them."""

    @property
    def mean_s(self) -> float | None:
        """Mean seconds of a job; None before the first."""
        return self.seconds / self.jobs if self.jobs else None


class Tally:
    """The counts of one dispatcher."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """"joined", "lost", "rejected" and "dropped" workers; "requeued", "copied", "disputed" and
        "failed" jobs, since the start."""
        self._workers: dict[str, WorkerTally] = {}

    def of(self, worker: str) -> WorkerTally:
        """What a worker has done."""
        return self._workers.get(worker) or WorkerTally()

    def complete(self, worker: str, seconds: float) -> None:
        """A job was evaluated by an accepted worker."""
        tally = self._workers.get(worker)
        if tally is None:
            tally = self._workers[worker] = WorkerTally()
        tally.jobs += 1
        tally.seconds += seconds

    def count(self, action: Action) -> None:
        """Count a decision about a worker or a job."""
        match action:
            case AcceptWorker(worker):
                self.counts["joined"] += 1
                self._workers.setdefault(worker, WorkerTally())
            case RejectWorker():
                self.counts["rejected"] += 1
            case DropWorker():
                self.counts["dropped"] += 1
            case WorkerLost(_, _, job):
                self.counts["lost"] += 1
                self.counts["requeued"] += job is not None
            case WorkerOverdue():
                self.counts["requeued"] += 1
            case JobCopied():
                self.counts["copied"] += 1
            case JobDisputed():
                self.counts["disputed"] += 1
                self.counts["requeued"] += 1
            case FailJob():
                self.counts["failed"] += 1

    def forget(self, worker: str) -> None:
        """A worker is gone for good."""
        self._workers.pop(worker, None)
