"""The failure history of one job: its assignments, the workers lost over it, its refusals.

Decides nothing; the scheduler does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

LossKind: TypeAlias = Literal["failed", "gone", "late"]
""""failed": the worker reported a fault of its own. "gone": it disconnected or fell silent, perhaps
its connection alone. "late": it exceeded the deadline."""


@dataclass(frozen=True, slots=True)
class _Loss:
    worker: str
    process: str
    kind: LossKind
    reason: str
    at: float


@dataclass(slots=True)
class JobHistory:
    """What counts for and against one job."""

    assigned: dict[str, float] = field(default_factory=dict)
    """Workers it was assigned to, each with its deadline."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Workers that report it to be at fault, each with the reason."""
    doubted: set[str] = field(default_factory=set)
    """Those among them whose results cannot be right, unless the job is at fault."""
    _losses: list[_Loss] = field(default_factory=list)

    @property
    def losses(self) -> int:
        """How many workers it may have broken; a process that vanished repeatedly counts once."""
        return len(self._losses)

    def certain_losses(self, since: float) -> int:
        """Losses that will not be forgiven: a worker that vanished later may still come back."""
        return sum(loss.kind != "gone" or loss.at <= since for loss in self._losses)

    def shift(self, seconds: float) -> None:
        """Move all times forward by a pause of the server."""
        self._losses = [replace(loss, at=loss.at + seconds) for loss in self._losses]
        self.assigned = {worker: due + seconds for worker, due in self.assigned.items()}

    @property
    def suspect(self) -> bool:
        """Whether anything counts against the job."""
        return bool(self._losses or self.refusals)

    @property
    def hosts(self) -> Collection[str]:
        """Machines on which workers were lost over it."""
        return {host(loss.process) for loss in self._losses} - {""}

    @property
    def workers(self) -> Collection[str]:
        """Workers lost over it."""
        return {loss.worker for loss in self._losses}

    def add_loss(self, worker: str, process: str, kind: LossKind, reason: str, at: float) -> None:
        """Record that a worker assigned to this job was lost."""
        if kind != "failed":
            self._losses = [
                loss
                for loss in self._losses
                if loss.kind == "failed" or (loss.worker, loss.process) != (worker, process)
            ]
        self._losses.append(_Loss(worker, process, kind, reason, at))

    def forgive(self, worker: str, process: str) -> None:
        """Forget the loss of a worker that turned out to be alive."""
        self._losses = [
            loss
            for loss in self._losses
            if loss.kind != "gone" or (loss.worker, loss.process) != (worker, process)
        ]

    def loss_message(self, number: int) -> str:
        """Why the job is blamed for its losses, in a sentence."""
        lost = len(self.workers)
        losses = "; ".join(f"{loss.worker}: {loss.reason}" for loss in self._losses)
        if all(loss.kind == "late" for loss in self._losses):
            return (
                f"job {number} was given to {_workers(len(self.assigned))} and not done in time, "
                "so the job is blamed (if it needs longer, raise workers.job_timeout_s and "
                f"upstream.force_timeout_s): {losses}"
            )
        times = f" {self.losses} times" if lost < self.losses else ""
        return (
            f"job {number} was given to {_workers(len(self.assigned))} and broke {lost} of them"
            f"{times}, so the job is blamed: {losses}"
        )

    def refusal_message(self, number: int) -> str:
        """What the workers that refused the job report, in a sentence."""
        reasons = {name: why.removeprefix(f"job {number}: ") for name, why in self.refusals.items()}
        if len(reasons) == 1:
            ((name, reason),) = reasons.items()
            return f"worker {name} reports that job {number} cannot be evaluated: {reason}"
        names = " and ".join(reasons)
        if len(set(reasons.values())) == 1:
            reason = next(iter(reasons.values()))
        else:
            reason = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return f"workers {names} report that job {number} cannot be evaluated: {reason}"


def host(process: str) -> str:
    """The machine of "HOST:PID"; "" if unknown."""
    return process.rpartition(":")[0]


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
