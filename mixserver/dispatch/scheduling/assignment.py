"""Which idle worker gets which job, and which jobs get a second copy. Values and pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from mixserver.dispatch.scheduling.durations import JobDurations
from mixserver.dispatch.scheduling.job_history import JobHistory, host
from mixserver.dispatch.scheduling.scheduler_state import Job, Jobs, Workers, WorkerState
from mixserver.wire.worker import Role


def idle_workers(role: Role, workers: Workers) -> list[str]:
    """The idle workers of a role, the one that has been idle longest first."""
    idle = [
        name
        for name, state in workers.items()
        if state.role == role and state.job is None and not state.silent
    ]
    if len(idle) > 1:
        idle.sort(key=lambda name: workers[name].idle_since)
    return idle


def match_jobs(
    queued: Sequence[int], idle: Sequence[str], jobs: Jobs, workers: Workers
) -> dict[int, str]:
    """Which of the queued jobs goes to which of the idle workers.

    The jobs that have waited longest go first: each to a worker that had its stream, otherwise to
    the one that has been idle longest. A suspect job goes to a worker that has had no trouble with
    it, on another machine if there is one.

    Args:
        queued: numbers of jobs, in their order.
        idle: names of workers, in their order.
        jobs: jobs by number.
        workers: workers by name.
    """
    free = list(idle)
    matches: dict[int, str] = {}
    for number in queued[: len(idle)]:
        job = jobs[number]
        if job.history.suspect or job.checks:
            worker = _least_involved(job, free, workers)
        else:
            worker = _with_stream(job.stream, free, workers)
        if worker is not None:
            matches[number] = worker
            free.remove(worker)
    for number in queued:
        if not free:
            break
        if number in matches:
            continue
        worker = _least_involved(jobs[number], free, workers)
        if worker is not None:
            matches[number] = worker
            free.remove(worker)
    return matches


def late_jobs(
    jobs: Jobs, workers: Workers, durations: JobDurations, job_timeout_s: float, now: float
) -> list[tuple[int, str, float]]:
    """Jobs that take much longer than usual and that one worker alone evaluates, latest first.

    Returns:
        For each its number, its worker, and the seconds after which it was late.
    """
    holders: dict[int, list[str]] = {}
    for name, state in workers.items():
        if state.job is not None:
            holders.setdefault(state.job, []).append(name)
    found: list[tuple[float, int, str, float]] = []
    for number, names in holders.items():
        job = jobs.get(number)
        if job is None or job.worker is None or job.size is None or len(names) > 1:
            continue
        late_s = durations.late_after(job.role, job.size)
        took = seconds_at_job(workers[names[0]], job_timeout_s, now)
        if late_s is not None and took > late_s:
            found.append((took / late_s, number, names[0], late_s))
    return [(number, name, late_s) for _, number, name, late_s in sorted(found, reverse=True)]


def second_worker(job: Job, idle: Sequence[str], workers: Workers) -> str | None:
    """The idle worker that gets a second copy of a job; on another machine if there is one."""
    mine = "" if job.worker is None else host(workers[job.worker].process)
    others = [
        name for name in idle if name not in job.history.assigned and job.allows(name, workers)
    ]
    return min(
        others,
        key=lambda name: (
            name in job.history.workers,
            bool(mine) and host(workers[name].process) == mine,
        ),
        default=None,
    )


def seconds_at_job(state: WorkerState, job_timeout_s: float, now: float) -> float:
    """How long a worker has had its job, without pauses of the server."""
    return now - (state.due - job_timeout_s)


def _with_stream(stream: int, free: Sequence[str], workers: Workers) -> str | None:
    """The first free worker that had a stream last."""
    for worker in free:
        if workers[worker].stream == stream:
            return worker
    return None


def _least_involved(job: Job, free: Sequence[str], workers: Workers) -> str | None:
    """The free worker with the least in common with those that had trouble with a job."""
    history: JobHistory = job.history
    if not history.suspect and not job.checks:
        return free[0]
    return min(
        (w for w in free if w not in history.refusals and job.allows(w, workers)),
        key=lambda worker: (
            worker in history.workers,
            host(workers[worker].process) in history.hosts,
        ),
        default=None,
    )
