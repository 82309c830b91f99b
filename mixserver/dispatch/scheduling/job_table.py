"""Jobs without a result: which are queued, and which are at fault themselves."""

from __future__ import annotations

from collections.abc import Iterator

from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.actions import FailJob
from mixserver.dispatch.scheduling.durations import JobSize
from mixserver.dispatch.scheduling.scheduler_state import Job, Workers, has_second_opinion
from mixserver.wire.worker import Role


class JobTable:
    """The scheduler's jobs.

    Args:
        policy: names the roles, and how many losses fail a job.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.open: dict[int, Job] = {}
        """Every job that has neither a result nor failed."""
        self.queues: dict[Role, list[int]] = {role: [] for role in policy.roles}
        self.suspended: set[int] = set()
        """Jobs over which too many workers were lost, unless some of these come back: until that
        is known, they are assigned to no other worker."""
        self._disputed: set[int] = set()
        """Jobs that one worker reports to be at fault."""
        self._checking: set[int] = set()
        """Spot checks."""

    def get(self, number: int | None) -> Job | None:
        """An open job, if it is one."""
        return None if number is None else self.open.get(number)

    def submit(self, number: int, role: Role, stream: int, size: JobSize | None) -> None:
        """Queue a new job."""
        self.open[number] = Job(role, stream, size)
        self.queues[role].append(number)

    def submit_check(self, number: int, checks: tuple[str, str]) -> None:
        """A new job is a spot check of what this worker, of this process, has evaluated."""
        self.open[number].checks = checks
        self._checking.add(number)

    def close(self, number: int) -> None:
        """Remove a job, if it is open."""
        self._disputed.discard(number)
        self._checking.discard(number)
        self.suspended.discard(number)
        job = self.open.pop(number, None)
        if job is not None and job.worker is None:
            self.queues[job.role].remove(number)

    def assign(self, number: int, worker: str) -> None:
        """Take a job from its queue, if it is there, for a worker."""
        job = self.open[number]
        if job.worker is None:
            self.queues[job.role].remove(number)
            job.worker = worker

    def requeue(self, number: int, worker: str) -> bool:
        """Put a job at the head of its queue, if this worker is counted on for it."""
        job = self.open.get(number)
        if job is None or job.worker != worker:
            return False
        job.worker = None
        self.queues[job.role].insert(0, number)
        return True

    def suspend_if_suspect(self, number: int) -> None:
        """Suspend a job that may have broken too many workers."""
        if self.open[number].history.losses >= self._policy.failures:
            self.suspended.add(number)

    def fail_role(self, role: Role, reason: str) -> Iterator[FailJob]:
        """Fail all queued jobs of a role, which has been empty for too long."""
        for number in list(self.queues[role]):
            self.close(number)
            yield FailJob(number, "no_worker", reason)

    def dispute(self, number: int) -> None:
        """Note that one worker reports a job to be at fault."""
        self._disputed.add(number)

    @property
    def suspects(self) -> bool:
        """Whether any job may have to fail: at fault itself, or a spot check without a worker."""
        return bool(self.suspended or self._disputed or self._checking)

    def fail_at_fault(self, workers: Workers, now: float) -> Iterator[FailJob]:
        """Fail jobs that broke too many workers, that every worker left to ask has refused, and
        spot checks for which no second worker is left.
        """  # noqa: D205 - one sentence
        policy = self._policy
        for number in sorted(self.suspended):
            history = self.open[number].history
            if history.losses < policy.failures:
                self.suspended.discard(number)
            elif history.certain_losses(now - policy.patience_s) >= policy.failures:
                self.close(number)
                yield FailJob(number, "input", history.loss_message(number))
        for number in sorted(self._disputed):
            job = self.open[number]
            if job.worker is None and not has_second_opinion(job, workers):
                self.close(number)
                yield FailJob(number, "input", job.history.refusal_message(number))
        for number in sorted(self._checking):
            job = self.open[number]
            if job.worker is None and not has_second_opinion(job, workers):
                self.close(number)
                yield FailJob(number, "no_worker", f"no second {job.role} worker is left for it")
