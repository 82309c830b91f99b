"""Log lines for the scheduler's decisions. Nothing depends on them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.actions import (
    AcceptWorker,
    Action,
    DisputeResolved,
    DropWorker,
    FailJob,
    JobCopied,
    JobDisputed,
    RejectWorker,
    RoleAvailable,
    RoleEmpty,
    WorkerHung,
    WorkerLost,
    WorkerOverdue,
    WorkerRecovered,
)
from mixserver.dispatch.scheduling.quarantine import process_label
from mixserver.wire.worker import Role

log = structlog.get_logger(__name__)


_MEMBERS: Final = 200
"""Workers that may join or leave in one second, each with a line of its own."""


class LogThrottle:
    """Limits log lines to one per interval and source, and counts those it suppresses.

    Args:
        clock: seconds that never go backwards.
        sources: how many are distinguished; more are not logged within an interval.
        interval_s: seconds between two lines about one source.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sources: int = 20,
        interval_s: float = 1.0,
    ) -> None:
        self._clock = clock
        self._max_sources = sources
        self._interval_s = interval_s
        self._logged: dict[bytes | str, float] = {}
        self._suppressed = 0

    def __call__(self, source: bytes | str) -> int | None:
        """How many lines were suppressed since the last one; None to suppress this one, too."""
        now = self._clock()
        self._logged = {one: at for one, at in self._logged.items() if now - at < self._interval_s}
        if source in self._logged or len(self._logged) >= self._max_sources:
            self._suppressed += 1
            return None
        self._logged[source] = now
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


class Counted:
    """Counts what recurs per source; lines are due at 1, 10, 100, ... times."""

    def __init__(self, sources: int = 1000) -> None:
        self._counts: Counter[str] = Counter()
        self._max_sources = sources

    def count(self, source: str) -> int | None:
        """Count one more; how many by now, or None if that needs no line."""
        if source not in self._counts and len(self._counts) >= self._max_sources:
            self._counts.clear()
        self._counts[source] += 1
        count = self._counts[source]
        return count if str(count).strip("0") == "1" else None


class EventLogger:
    """Logs what happens to workers and jobs.

    Args:
        policy: the limits that messages mention.
        start_command: how to start a worker of a role.
    """

    def __init__(self, policy: Policy, start_command: Callable[[Role], str]) -> None:
        self._policy = policy
        self._start_command = start_command
        self._throttle = LogThrottle()
        self._members = LogThrottle(sources=_MEMBERS)
        self._copies = Counted()

    def log(self, action: Action) -> None:
        """Log an action, if people should see it."""
        match action:
            case AcceptWorker(worker, role, card):
                if (more := self._suppressed(self._members, worker)) is not None:
                    log.info(
                        "worker joined",
                        worker=worker,
                        role=role,
                        model=card.name,
                        fingerprint=card.fingerprint,
                        **more,
                    )
            case RejectWorker(worker, reason):
                if (more := self._suppressed(self._throttle, worker)) is not None:
                    log.warning("worker rejected", worker=worker, reason=reason, **more)
            case FailJob(job, _, reason):
                log.info("job failed", job=job, reason=reason)  # its batch raises the error
            case JobCopied(worker, job, other, late_s):
                if (count := self._copies.count(worker)) is not None:
                    log.info(
                        "job takes longer than usual: a second worker evaluates it too",
                        job=job,
                        worker=worker,
                        second=other,
                        late_after_s=round(late_s, 1),
                        times=count,
                    )
            case WorkerRecovered(worker):
                log.info("worker recovered", worker=worker)
            case RoleAvailable(role):
                log.info("role available again", role=role)
            case _:
                self._warn(action)

    def _suppressed(self, throttle: LogThrottle, source: str) -> dict[str, int] | None:
        """The number of suppressed lines, if any, for a line that may be written; else None."""
        suppressed = throttle(source)
        if suppressed is None:
            return None
        return {"suppressed": suppressed} if suppressed else {}

    def _warn(self, action: Action) -> None:
        match action:
            case DropWorker(worker, reason):
                log.warning("worker dropped", worker=worker, reason=reason)
            case WorkerLost(worker, reason, job):
                if job is not None:
                    log.warning("worker lost", worker=worker, reason=reason, job=job)
                elif (more := self._suppressed(self._members, f"lost {worker}")) is not None:
                    log.info("worker lost", worker=worker, reason=reason, job=job, **more)
            case WorkerOverdue(worker, job):
                log.warning(
                    "worker overdue",
                    worker=worker,
                    job=job,
                    after_s=self._policy.job_timeout_s,
                    dropped_after_s=self._policy.hung_s,
                )
            case WorkerHung(worker, process, reason):
                log.warning(
                    "worker hangs", worker=worker, process=process_label(process), reason=reason
                )
            case JobDisputed(worker, job, reason):
                log.warning(
                    "worker reports bad input: asking a second one",
                    worker=worker,
                    job=job,
                    reason=reason,
                )
            case DisputeResolved(job, worker, refusal):
                log.warning(
                    "job evaluated although another worker had reported bad input: check that one",
                    worker=worker,
                    job=job,
                    other=refusal,
                )
            case RoleEmpty(role, reason):
                log.warning(
                    "no worker: waiting for one",
                    role=role,
                    reason=reason,
                    start=self._start_command(role),
                )
