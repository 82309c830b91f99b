"""Whether a server is healthy, and why not: decisions about a status, without any I/O."""

from __future__ import annotations

from collections.abc import Sequence

from mixserver.config import Workers
from mixserver.core.errors import MixserverError
from mixserver.wire.status import IpiStatus, RoleStatus, Status
from mixserver.wire.text import SENTENCE, clean


def problems(
    roles: Sequence[RoleStatus], ipi: IpiStatus, limits: Workers, failure: MixserverError | None
) -> tuple[str, ...]:
    """Why a server cannot answer now, or has to end; empty if it is healthy.

    A role whose first worker is still awaited is healthy until i-PI has waited for
    `workers.first_worker_s`: workers are often started only once their server is healthy. A
    degraded role is healthy, too: its jobs are evaluated, only later.

    Args:
        roles: of the snapshot.
        ipi: of the snapshot.
        limits: how long to be patient.
        failure: why the run has to end, if it has to.
    """
    found = []
    if failure is not None:
        found.append(f"the run ends: {clean(str(failure), SENTENCE)}")
    for role in roles:
        if role.state == "starved":
            lost = f" (the last was {role.last_loss})" if role.last_loss else ""
            found.append(
                f"no {role.role} worker is alive and on time, of {role.workers} connected{lost}; "
                f"{_waiting(role)}"
            )
        elif role.state == "awaited" and _asked_s(ipi) > limits.first_worker_s:
            found.append(
                f"no {role.role} worker has joined yet; i-PI has waited for {_asked_s(ipi):.0f} s"
            )
    if ipi.state == "away" and (ipi.silent_s or 0.0) > limits.patience_s:
        found.append(
            f"i-PI at {', '.join(ipi.addresses)} left without EXIT and was last heard "
            f"{ipi.silent_s:.0f} s ago"
        )
    return tuple(found)


def too_old(status: Status, max_age_s: float) -> str:
    """Why the latest answer is too old, in words; "" if it is not.

    Before the first answer, the time since the server started counts.
    """
    age = status.evaluations.last_age_s
    if (status.up_s if age is None else age) <= max_age_s:
        return ""
    since = f"for {status.up_s:.0f} s, since the start" if age is None else f"for {age:.0f} s"
    return f"no evaluation was answered {since} (--max-age {max_age_s:g})"


def _asked_s(ipi: IpiStatus) -> float:
    """Seconds for which i-PI has waited: it sends nothing until it is answered."""
    return (ipi.silent_s or 0.0) if ipi.state == "connected" else 0.0


def _waiting(role: RoleStatus) -> str:
    if role.waiting_s is None:
        return "no job waits for one at the moment"
    return f"{role.queue} job(s) have waited for {role.waiting_s:.0f} s"
