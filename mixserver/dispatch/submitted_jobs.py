"""Jobs that were submitted and have no result yet, and where their results go.

A result goes to its batch; or first to a second worker, where the evaluation is spot-checked. That
of a combined job is separated into those of its members.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mixserver.core.errors import BadInput
from mixserver.dispatch.batch import Batch, JobResult
from mixserver.dispatch.job_numbers import job_numbers, numbered
from mixserver.dispatch.scheduling.actions import JobSubmitted
from mixserver.dispatch.scheduling.durations import job_size
from mixserver.dispatch.spot_checks import SpotCheck, SpotChecks
from mixserver.wire.replicas import combine, separate_result
from mixserver.wire.worker import Evaluate, Result, Role

Number: TypeAlias = int
"""Of a job."""


@dataclass(slots=True)
class SubmittedJob:
    """A job that has no result yet."""

    role: Role
    evaluate: Evaluate
    batch: Batch | None
    """None for a combined one, whose members have theirs."""
    submitted: float
    check: SpotCheck | None = None
    assigned: dict[str, float] = field(default_factory=dict)
    """When it was assigned to which worker."""
    members: tuple[Number, ...] = ()
    """The jobs that it combines."""
    within: Number | None = None
    """The combined job that it is a member of."""


class SubmittedJobs:
    """The jobs by number.

    Args:
        audit: every so manyth evaluation is spot-checked; 0: none.
    """

    def __init__(self, audit: int) -> None:
        self._jobs: dict[int, SubmittedJob] = {}
        self._numbers = job_numbers()
        self._checks = SpotChecks(audit)

    def __getitem__(self, number: int) -> SubmittedJob:
        return self._jobs[number]

    def get(self, number: int | None) -> SubmittedJob | None:
        """A job, if it has no result yet."""
        return None if number is None else self._jobs.get(number)

    def submit(self, role: Role, evaluate: Evaluate, batch: Batch, now: float) -> JobSubmitted:
        """Give a job its number."""
        number = next(self._numbers)
        check = self._checks.due(role, batch) if self._checks.every else None
        self._jobs[number] = SubmittedJob(role, numbered(evaluate, number), batch, now, check)
        return JobSubmitted(number, role, evaluate.stream, job_size(evaluate))

    def combine(self, numbers: Sequence[Number], now: float) -> JobSubmitted | None:
        """Make one job of several that were submitted; of those that are still wanted."""
        members = {number: self._jobs[number] for number in numbers if number in self._jobs}
        if len(members) < 2:
            return next((self._alone(number) for number in members), None)
        role = next(iter(members.values())).role
        number = next(self._numbers)
        evaluate = numbered(combine([job.evaluate for job in members.values()]), number)
        self._jobs[number] = SubmittedJob(role, evaluate, None, now, members=tuple(members))
        for job in members.values():
            job.within = number
        return JobSubmitted(number, role, evaluate.stream, job_size(evaluate))

    def _alone(self, number: Number) -> JobSubmitted:
        job = self._jobs[number]
        job.within = None
        return JobSubmitted(number, job.role, job.evaluate.stream, job_size(job.evaluate))

    def cancel(self, number: Number) -> Number | None:
        """Forget a job; the job that need not be evaluated any more, if there is one."""
        number = self._checks.second_jobs.pop(number, number)
        job = self._jobs.pop(number, None)
        if job is None or job.within is None:
            return None if job is None else number
        others = self._jobs[job.within].members
        if any(other in self._jobs for other in others):
            return None
        del self._jobs[job.within]
        return job.within

    def take_all(self) -> Iterator[tuple[int, SubmittedJob]]:
        """Forget all jobs, one by one."""
        for number in list(self._jobs):
            yield number, self._jobs.pop(number)

    def complete(
        self, number: int, worker: str, result: Result, dtype: str, now: float
    ) -> tuple[JobResult, JobSubmitted | None]:
        """A job has its result: give it to its batch, or have it repeated by another worker.

        Args:
            number: of the job.
            worker: who evaluated it.
            result: validated.
            dtype: precision of the model, which decides whether two results agree.
            now: as in all methods, seconds that never go backwards.

        Returns:
            The result with its provenance; and the second job, if there is one.
        """
        job = self._jobs.pop(number)
        assigned = job.assigned[worker]
        done = JobResult(result, worker, assigned - job.submitted, now - assigned)
        check = job.check
        if job.batch is None:
            parts = separate_result(result, job.evaluate)
            for member, part in zip(job.members, parts, strict=True):
                one = self._jobs.pop(member, None)
                if one is not None and one.batch is not None:
                    waited = assigned - one.submitted
                    one.batch.complete(member, JobResult(part, worker, waited, done.took_s), now)
        elif check is None:
            job.batch.complete(number, done, now)
        elif check.first is None:
            return done, self._repeat(number, job, done, now)
        else:
            self._checks.second_jobs.pop(check.number, None)
            error = self._checks.compare(job.evaluate, job.role, check.first, done, dtype)
            if error is not None:
                job.batch.fail(error)
            else:
                job.batch.complete(check.number, check.first, now)
        return done, None

    def fail(self, number: int, reason: str, history: str, now: float) -> list[JobSubmitted]:
        """A job is at fault: its batch fails; a second job only leaves its evaluation unchecked.

        Which member of a combined job is at fault is not known: each is evaluated alone.

        Args:
            number: of the job.
            reason: what is wrong with it.
            history: what happened to it, for one that more than one worker had.
            now: see `complete`.

        Returns:
            What is evaluated instead.
        """
        job = self._jobs.pop(number)
        if job.batch is None:
            return [self._alone(member) for member in job.members if member in self._jobs]
        if self._unchecked(job, reason, now):
            return []
        if len(job.assigned) > 1:
            reason = f"{reason}. What happened to it: {history}"
        job.batch.fail(BadInput(reason))
        return []

    def give_up(self, number: int, reason: str, error: Exception, now: float) -> None:
        """No worker is left for a job."""
        job = self._jobs.pop(number)
        members = [self._jobs.pop(member) for member in job.members if member in self._jobs]
        for one in members or [job]:
            if one.batch is not None and not self._unchecked(one, reason, now):
                one.batch.fail(error)

    def _repeat(self, number: int, job: SubmittedJob, first: JobResult, now: float) -> JobSubmitted:
        second = next(self._numbers)
        self._checks.second_jobs[number] = second
        repeated = numbered(job.evaluate, second)
        check = SpotCheck(number, first)
        self._jobs[second] = SubmittedJob(job.role, repeated, job.batch, now, check)
        return JobSubmitted(second, job.role, job.evaluate.stream, checks=first.worker)

    def _unchecked(self, job: SubmittedJob, reason: str, now: float) -> bool:
        """Give a batch the first result of a job whose second one failed, if it is one."""
        if job.batch is None or job.check is None or job.check.first is None:
            return False
        self._checks.skipped(job.role, job.check.first.worker, reason)
        self._checks.second_jobs.pop(job.check.number, None)
        job.batch.complete(job.check.number, job.check.first, now)
        return True
