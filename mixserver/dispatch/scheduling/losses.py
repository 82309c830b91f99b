"""How workers lose their jobs: dropped for a wrong result, gone, silent or late."""

from __future__ import annotations

from collections.abc import Iterator

from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.actions import (
    Action,
    DropWorker,
    WorkerHung,
    WorkerLost,
    WorkerOverdue,
)
from mixserver.dispatch.scheduling.job_history import LossKind
from mixserver.dispatch.scheduling.job_table import JobTable
from mixserver.dispatch.scheduling.quarantine import Quarantine
from mixserver.dispatch.scheduling.roles import Roles
from mixserver.dispatch.scheduling.scheduler_state import WorkerState, other_holder


class WorkerLosses:
    """The part of the scheduler that stops counting on workers; changes what it is given.

    Args:
        policy: the rules.
        roles: told of every loss.
        workers: all accepted workers by name.
        jobs: those of lost workers are queued again.
        quarantine: takes the processes whose result is wrong.
    """

    def __init__(
        self,
        policy: Policy,
        roles: Roles,
        workers: dict[str, WorkerState],
        jobs: JobTable,
        quarantine: Quarantine,
    ) -> None:
        self._policy, self._roles = policy, roles
        self._workers, self._jobs, self._quarantine = workers, jobs, quarantine

    def drop(
        self, worker: str, reason: str, now: float, kind: LossKind | None = "failed"
    ) -> Iterator[Action]:
        """Drop a worker whose result is wrong, and quarantine its process."""
        self._quarantine.add(self._workers[worker].process, reason)
        yield DropWorker(worker, reason)
        yield from self.lose(worker, reason, kind, now)

    def lose(self, worker: str, reason: str, kind: LossKind | None, now: float) -> Iterator[Action]:
        """Remove a worker and queue its job again; without a kind the job is not suspected."""
        state = self._workers.pop(worker, None)
        if state is not None:
            yield from self._report_loss(worker, state, reason)
            self._requeue(worker, state, reason, kind, now)

    def _report_loss(self, worker: str, state: WorkerState, reason: str) -> Iterator[Action]:
        self._roles.record_loss(state.role, worker, reason)
        yield WorkerLost(worker, reason, state.job if state.job in self._jobs.open else None)

    def _requeue(
        self, worker: str, state: WorkerState, reason: str, kind: LossKind | None, now: float
    ) -> None:
        """Put the job of a worker that is not counted on for it at the head of its queue.

        A worker that evaluates it too is counted on from now on.
        """
        number, job = state.job, self._jobs.get(state.job)
        if number is None or job is None or job.worker != worker:
            return
        job.worker = other_holder(number, worker, self._workers) or worker
        if job.worker == worker:
            self._jobs.requeue(number, worker)
        if kind is None:
            return
        job.history.add_loss(worker, state.process, kind, reason, now)
        self._jobs.suspend_if_suspect(number)

    def check_silence(self, worker: str, now: float) -> Iterator[Action]:
        """Give the job of a worker that has not been heard of to others."""
        state = self._workers[worker]
        silence = now - state.last_seen
        if silence > self._policy.patience_s and not state.silent:
            state.silent = True
            reason = f"silent for {silence:.1f} s"
            yield from self._report_loss(worker, state, reason)
            self._requeue(worker, state, reason, "gone", now)

    def check_deadline(self, worker: str, now: float) -> Iterator[Action]:
        """Give the job of a worker that needs too long to others; drop it if it never ends."""
        state, policy = self._workers[worker], self._policy
        if state.job is None:
            return
        late = now - state.due
        if late > 0.0 and not state.overdue and not state.silent:
            state.overdue = True
            limit = f"{policy.job_timeout_s:g} s, which is workers.job_timeout_s"
            reason = f"job {state.job} not done within {limit}"
            self._roles.record_loss(state.role, worker, reason)
            if state.job in self._jobs.open:
                yield WorkerOverdue(worker, state.job)
                self._requeue(worker, state, reason, "late", now)
        if late > policy.hung_s - policy.job_timeout_s:
            reason = f"job {state.job} not done within {policy.hung_s:g} s"
            if not state.hung:
                state.hung = True
                yield WorkerHung(worker, state.process, reason)
            if not state.silent:  # one that receives nothing may come back as it is
                yield DropWorker(worker, reason)
                yield from self.lose(worker, reason, "late", now)
