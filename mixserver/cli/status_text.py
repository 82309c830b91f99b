"""A server's status as text for people."""

from __future__ import annotations

from typing import Final

from mixserver.cli.tables import text_table
from mixserver.wire.status import EvaluationStatus, RoleStatus, Status, WorkerStatus

_SIGN = {"ok": "ok", "degraded": "DEGRADED", "awaited": "awaited", "starved": "STARVED"}

_LONG_S: Final = 2.0
"""A wait of i-PI that is worth showing."""


def as_text(status: Status) -> str:
    """All of a status in a screenful: the run, its speed, roles, workers, problems."""
    lines = [
        f"{status.run}: {status.stage} for {duration(status.up_s)} on {status.host} "
        f"(process {status.pid})",
        _ipi(status),
        _speed(status.evaluations),
    ]
    if status.evaluations.core is not None and len(status.roles) > 1:
        lines.append(_region(status.evaluations))
    lines += ["", *_roles(status.roles), "", _workers(status)]
    counts = status.counts
    if any(counts.get(what) for what in ("lost", "rejected", "requeued", "failed")):
        lines.append(
            f"since the start: {counts.get('lost', 0)} workers lost, {counts.get('rejected', 0)} "
            f"rejected; {counts.get('requeued', 0)} jobs given to another worker, "
            f"{counts.get('failed', 0)} failed"
        )
    lines += ["", *(f"PROBLEM: {problem}" for problem in status.problems)]
    lines += [f"warning: {warning}" for warning in status.warnings]
    return "\n".join(lines).rstrip()


def duration(seconds: float) -> str:
    """A time in one or two units, such as "2 h 5 min"."""
    if seconds < 60.0:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60.0)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / 3600.0), 24)
    return f"{days} d {hours} h"


def _ipi(status: Status) -> str:
    ipi = status.ipi
    line = f"i-PI at {', '.join(ipi.addresses)}: {ipi.state}"
    if ipi.silent_s is not None and ipi.state == "away":
        line += f", last heard {duration(ipi.silent_s)} ago"
    if ipi.silent_s is not None and ipi.state == "connected" and ipi.silent_s > _LONG_S:
        line += f", has waited for {duration(ipi.silent_s)}"
    if ipi.total_steps is not None:
        step = "?" if ipi.step is None else ipi.step
        line += f"; step {step} of {ipi.total_steps}"
    if ipi.eta_s is not None:
        line += f", {duration(ipi.eta_s)} left"
    return line


def _speed(evaluations: EvaluationStatus) -> str:
    line = f"{evaluations.total} evaluations"
    if evaluations.per_s is not None:
        line += f", {evaluations.per_s:.3g} per second"
    if evaluations.last_age_s is not None:
        line += f", the last {duration(evaluations.last_age_s)} ago"
    if evaluations.ms_total is not None:
        line += (
            f"; ms: total {_ms(evaluations.ms_total)}  cheap {_ms(evaluations.ms_cheap)}  "
            f"expensive {_ms(evaluations.ms_expensive)}  own {_ms(evaluations.ms_own)}"
        )
    return line


def _region(evaluations: EvaluationStatus) -> str:
    line = (
        f"region: core {evaluations.core}  blend {evaluations.blend}  buffer {evaluations.buffer}  "
        f"halo {evaluations.halo} atoms in {evaluations.clusters} cluster(s)"
    )
    if evaluations.mismatch_rms is not None:
        line += f"; forces differ by {evaluations.mismatch_rms:.3g} eV/Å (rms in the blend)"
    return line


def _roles(roles: tuple[RoleStatus, ...]) -> list[str]:
    lines = []
    for role in roles:
        line = f"{role.role}: {_SIGN[role.state]}, {role.healthy} of {role.workers} workers on time"
        if role.queue:
            line += f", {role.queue} job(s) wait"
        if role.waiting_s is not None:
            line += f" for {duration(role.waiting_s)} without any worker"
        if role.last_loss and role.state != "ok":
            line += f"; last lost {role.last_loss}"
        lines.append(line)
    return lines


def _workers(status: Status) -> str:
    if not status.workers:
        return f"no workers; they connect to {status.workers_at}"
    head = ("worker", "role", "host", "model", "state", "for", "atoms", "jobs", "mean")
    rows = [_row(worker) for worker in status.workers]
    return text_table(head, rows, left=(0, 1, 2, 3, 4))


def _row(worker: WorkerStatus) -> tuple[str, ...]:
    since = worker.silent_s if worker.state == "silent" else worker.busy_s
    return (
        worker.name,
        worker.role,
        worker.host or "-",
        f"{worker.engine} {worker.model} ({worker.dtype})",
        worker.state,
        "-" if since is None else duration(since),
        "-" if worker.atoms is None else str(worker.atoms),
        str(worker.jobs),
        "-" if worker.mean_s is None else duration(worker.mean_s),
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
