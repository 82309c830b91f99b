"""What happened to one job: who was given it, who was lost over it, who calls it faulty.

It decides nothing; the board does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

How: TypeAlias = Literal["failed", "gone", "late"]
""""failed": it said so. "gone": it vanished or fell silent, perhaps its connection alone. "late":
it did not answer in time."""


@dataclass(frozen=True, slots=True)
class _Loss:
    worker: str
    process: str
    how: How
    reason: str
    at: float


@dataclass(slots=True)
class History:
    """The story of one job."""

    given: dict[str, float] = field(default_factory=dict)
    """Workers it was handed to, and when each should be done with it."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Workers that call it faulty, and why."""
    _losses: list[_Loss] = field(default_factory=list)

    @property
    def losses(self) -> int:
        """How often it may have broken a worker: a process that vanished counts once."""
        return len(self._losses)

    def certain(self, since: float) -> int:
        """How many of its losses will not be taken back: who vanished later may still be back."""
        return sum(loss.how != "gone" or loss.at <= since for loss in self._losses)

    def later(self, seconds: float) -> None:
        """Count so many seconds as if they had not been."""
        self._losses = [replace(loss, at=loss.at + seconds) for loss in self._losses]
        self.given = {worker: due + seconds for worker, due in self.given.items()}

    @property
    def troubled(self) -> bool:
        """Whether anything is held against it."""
        return bool(self._losses or self.refusals)

    @property
    def hosts(self) -> Collection[str]:
        """Machines on which workers were lost over it."""
        return {host(loss.process) for loss in self._losses} - {""}

    @property
    def workers(self) -> Collection[str]:
        """Workers lost over it."""
        return {loss.worker for loss in self._losses}

    def lose(self, worker: str, process: str, how: How, reason: str, at: float) -> None:
        """Note that a worker at this job is not counted on any more."""
        if how != "failed":
            self._losses = [
                loss
                for loss in self._losses
                if loss.how == "failed" or (loss.worker, loss.process) != (worker, process)
            ]
        self._losses.append(_Loss(worker, process, how, reason, at))

    def pardon(self, worker: str, process: str) -> None:
        """A worker that was thought gone is there: this job has not broken it."""
        self._losses = [
            loss
            for loss in self._losses
            if loss.how != "gone" or (loss.worker, loss.process) != (worker, process)
        ]

    def blamed(self, number: int) -> str:
        """Why the job itself is blamed, in a sentence."""
        lost = len(self.workers)
        story = "; ".join(f"{loss.worker}: {loss.reason}" for loss in self._losses)
        if all(loss.how == "late" for loss in self._losses):
            return (
                f"job {number} was given to {_workers(len(self.given))} and not done in time, so "
                "the job is blamed (if it needs longer, raise workers.job_timeout_s and "
                f"upstream.force_timeout_s): {story}"
            )
        times = f" {self.losses} times" if lost < self.losses else ""
        return (
            f"job {number} was given to {_workers(len(self.given))} and broke {lost} of them"
            f"{times}, so the job is blamed: {story}"
        )

    def refused(self, number: int) -> str:
        """What the workers that call the job faulty say, in a sentence."""
        said = {who: why.removeprefix(f"job {number}: ") for who, why in self.refusals.items()}
        if len(said) == 1:
            ((who, why),) = said.items()
            return f"worker {who} says that job {number} cannot be evaluated: {why}"
        whose = " and ".join(said)
        if len(set(said.values())) == 1:
            why = next(iter(said.values()))
        else:
            why = "; ".join(f"{who}: {why}" for who, why in said.items())
        return f"workers {whose} say that job {number} cannot be evaluated: {why}"


def host(process: str) -> str:
    """The machine of "HOST:PID"; "" if unknown."""
    return process.rpartition(":")[0]


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
