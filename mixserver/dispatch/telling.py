"""What the board decided, told in the log. Nothing depends on it."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from mixserver.dispatch.actions import (
    Action,
    Back,
    Contradicted,
    Doubted,
    Drop,
    GiveUp,
    Hung,
    Lost,
    Overdue,
    Served,
    Starved,
    TakeIn,
    TurnAway,
)
from mixserver.dispatch.policy import Policy
from mixserver.wire.worker import Role

log = structlog.get_logger(__name__)


class Hush:
    """Lets one line a second through for each source, and counts what it holds back.

    Args:
        clock: seconds that never go backwards.
        sources: so many are counted apart; beyond that all have one line together.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, sources: int = 20) -> None:
        self._clock = clock
        self._most = sources
        self._last: dict[bytes | str, float] = {}
        self._held = 0

    def __call__(self, source: bytes | str) -> int | None:
        """None: say nothing. Otherwise speak, and say how many were held back since the last."""
        now = self._clock()
        self._last = {one: at for one, at in self._last.items() if now - at < 1.0}
        if source in self._last or len(self._last) >= self._most:
            self._held += 1
            return None
        self._last[source] = now
        held, self._held = self._held, 0
        return held


class Teller:
    """Logs what happens to workers and jobs.

    Args:
        policy: gives the numbers of some messages.
        cure: how to start a worker of a role.
    """

    def __init__(self, policy: Policy, cure: Callable[[Role], str]) -> None:
        self._policy = policy
        self._cure = cure
        self._hush = Hush()

    def tell(self, action: Action) -> None:
        """Log an action, if it is of interest to a person."""
        match action:
            case TakeIn(worker, role, card):
                log.info(
                    "worker joined",
                    worker=worker,
                    role=role,
                    model=card.name,
                    fingerprint=card.fingerprint,
                )
            case TurnAway(worker, reason):
                held = self._hush(worker)
                if held is not None:
                    more = {"more_like_it": held} if held else {}
                    log.warning("worker turned away", worker=worker, reason=reason, **more)
            case GiveUp(job, _, reason):
                log.info("job given up", job=job, reason=reason)  # the error goes with its result
            case Back(worker):
                log.info("worker is back", worker=worker)
            case Served(role):
                log.info("role has a worker again", role=role)
            case _:
                self._warn(action)

    def _warn(self, action: Action) -> None:
        match action:
            case Drop(worker, reason):
                log.warning("worker dropped", worker=worker, reason=reason)
            case Lost(worker, reason, job):
                tell = log.info if job is None else log.warning
                tell("worker lost", worker=worker, reason=reason, job=job)
            case Overdue(worker, job):
                after = self._policy.job_timeout_s
                log.warning(
                    "worker overdue",
                    worker=worker,
                    job=job,
                    after_s=after,
                    given_up_after_s=self._policy.hung_s,
                )
            case Hung(worker, process, reason):
                log.warning("worker hangs", worker=worker, process=process, reason=reason)
            case Doubted(worker, job, why):
                log.warning(
                    "a worker calls the job faulty: asking a second one",
                    worker=worker,
                    job=job,
                    reason=why,
                )
            case Contradicted(job, worker, refusal):
                log.warning(
                    "a worker answered a job that another called faulty: look at the other",
                    worker=worker,
                    job=job,
                    other=refusal,
                )
            case Starved(role, reason):
                log.warning(
                    "no worker: waiting for one", role=role, why=reason, start=self._cure(role)
                )
