"""Assigns jobs to idle workers: queued ones at once, late ones a second time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.actions import Action, AssignJob, JobCopied
from mixserver.dispatch.scheduling.assignment import (
    idle_workers,
    late_jobs,
    match_jobs,
    second_worker,
    seconds_at_job,
)
from mixserver.dispatch.scheduling.durations import JobDurations
from mixserver.dispatch.scheduling.job_table import JobTable
from mixserver.dispatch.scheduling.scheduler_state import Job, Workers, WorkerState
from mixserver.wire.worker import Role


class Assigner:
    """The part of the scheduler that assigns jobs.

    Args:
        policy: deadlines.
        jobs: the scheduler's.
        workers: the scheduler's.
    """

    def __init__(self, policy: Policy, jobs: JobTable, workers: Workers) -> None:
        self._policy = policy
        self._jobs = jobs
        self._workers = workers
        self._durations = JobDurations(policy.second_copy)

    def assign(self, role: Role, queue: Sequence[int], now: float) -> list[Action]:
        """Assign queued jobs of a role to idle workers."""
        actions: list[Action] = []
        jobs, workers = self._jobs, self._workers
        if not (idle := idle_workers(role, workers)):
            return actions
        if jobs.suspended:
            queue = [number for number in queue if number not in jobs.suspended]
        for number, worker in match_jobs(queue, idle, jobs.open, workers).items():
            jobs.assign(number, worker)
            actions.append(self._give(number, worker, now))
        return actions

    def copy_late_jobs(self, now: float) -> Iterator[Action]:
        """Assign jobs that take much longer than usual to idle workers too."""
        timeout_s = self._policy.job_timeout_s
        late = late_jobs(self._jobs.open, self._workers, self._durations, timeout_s, now)
        for number, worker, late_s in late:
            job = self._jobs.open[number]
            if self._jobs.queues[job.role]:
                continue  # idle workers are for jobs that no worker has
            idle = idle_workers(job.role, self._workers)
            other = second_worker(job, idle, self._workers)
            if other is not None:
                yield JobCopied(worker, number, other, late_s)
                yield self._give(number, other, now)

    def completed(self, job: Job, state: WorkerState, now: float) -> None:
        """A worker has returned the result of a job that it still has: learn from it."""
        if job.size is not None:
            took = seconds_at_job(state, self._policy.job_timeout_s, now)
            self._durations.record(job.role, job.size, took)

    def _give(self, number: int, worker: str, now: float) -> AssignJob:
        state, job = self._workers[worker], self._jobs.open[number]
        state.job, state.stream, state.overdue = number, job.stream, False
        state.due, state.hung = now + self._policy.job_timeout_s, False
        job.history.assigned[worker] = state.due
        return AssignJob(worker, number)
