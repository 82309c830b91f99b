"""A snapshot of a running server as a `Status`: taken when asked for, from what is there anyway."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mixserver
from mixserver.config import Case
from mixserver.dispatch.views import DispatchView, RoleView, WorkerView
from mixserver.ipi.output import PropertiesTail
from mixserver.ipi.session import Session
from mixserver.server.records.recorder import Recorder
from mixserver.server.service import Service
from mixserver.server.status.health import problems
from mixserver.wire.status import (
    MOST_WORKERS,
    STATUS_VERSION,
    EvaluationStatus,
    IpiStatus,
    RoleStatus,
    Status,
    WorkerStatus,
)
from mixserver.wire.text import clean

_LATEST: Final = (
    *("ms_total", "ms_cheap", "ms_expensive", "ms_own"),
    *("core", "blend", "buffer", "halo", "clusters", "work"),
    *("mismatch_max", "mismatch_rms", "core_mismatch_max", "core_mismatch_rms"),
)
"""Fields of the latest report that the status shows."""


@dataclass(frozen=True, slots=True)
class Steps:
    """i-PI's steps, where it is known which outputs are its own."""

    tail: PropertiesTail
    first: int
    """Steps that had been made when this run began."""
    total: int
    listed: bool
    """Whether the output lists them at all."""
    evaluated_once: bool = False
    """Whether each step needs one evaluation, so that evaluations count the steps too."""

    def made(self, printed: float | None, evaluation: int | None) -> int | None:
        """Steps made so far; None if unknown.

        Args:
            printed: the newest step in i-PI's output, which may list few of them.
            evaluation: number of this run's newest evaluation; the first, 0, is of its start.
        """
        if self.evaluated_once and evaluation is not None:
            # i-PI may repeat a request, so there can be more evaluations than steps
            counted = min(self.first + evaluation, self.total)
            return counted if printed is None else max(int(printed), counted)
        return None if printed is None else int(printed)


@dataclass(slots=True)
class Snapshots:
    """Takes snapshots of one server."""

    service: Service
    case: Case
    folder: Path
    """The run's."""
    steps: Steps | None = None
    """None where i-PI is started by hand."""
    stage: str = "serving"

    def read_step(self) -> int | None:
        """i-PI's newest step, from its output file; may take long, so not on the event loop."""
        if self.steps is None:
            return None
        latest = self.service.parts.recorder.latest
        evaluation = None if latest is None else latest.evaluation
        step = self.steps.made(self.steps.tail.last().get("step"), evaluation)
        if step is None:
            return self.steps.first if self.steps.listed else None
        return step

    def take(self, step: int | None = None) -> Status:
        """The status now; on the event loop.

        Args:
            step: what `read_step` returned.

        Raises:
            NoWorkerError: the server is closed.
        """
        parts, config = self.service.parts, self.case.config
        view = parts.dispatcher.view()
        roles = tuple(role_status(role, view.workers) for role in view.roles)
        ipi = self._ipi(step)
        wrong = problems(roles, ipi, config.workers, self.service.failure)
        return Status(
            version=STATUS_VERSION,
            program=mixserver.__version__,
            time=time.time(),
            case=str(self.case.file),
            run=str(self.folder),
            host=socket.gethostname(),
            pid=os.getpid(),
            stage=self.stage,
            up_s=parts.recorder.statistics.up_s,
            healthy=not wrong,
            problems=wrong,
            workers_at=parts.listener.address,
            workers=_workers(view),
            roles=roles,
            counts=dict(view.counts),
            evaluations=_evaluations(parts.recorder),
            ipi=ipi,
            warnings=tuple(warning.message for warning in parts.warnings.found),
        )

    def _ipi(self, step: int | None) -> IpiStatus:
        sessions: Sequence[Session] = self.service.upstreams
        seen = max((s.last_seen for s in sessions if s.last_seen is not None), default=None)
        connected = any(session.connected for session in sessions)
        total = None if self.steps is None else self.steps.total
        return IpiStatus(
            state="connected" if connected else "awaited" if seen is None else "away",
            addresses=self.case.addresses,
            silent_s=None if seen is None else max(0.0, time.time() - seen),
            step=step,
            total_steps=total,
            eta_s=self._eta_s(step),
        )

    def _eta_s(self, step: int | None) -> float | None:
        recorder = self.service.parts.recorder
        rate, made = recorder.statistics.per_s, sum(recorder.counts.values())
        if self.steps is None or step is None or not rate or step <= self.steps.first:
            return None
        per_step = made / (step - self.steps.first)
        return max(0, self.steps.total - step) * per_step / rate


def role_status(role: RoleView, workers: Sequence[WorkerView]) -> RoleStatus:
    """What can be expected of a role's workers together."""
    states = Counter(worker.state for worker in workers if worker.role == role.role)
    count, healthy = states.total(), states["idle"] + states["busy"]
    return RoleStatus(
        role=role.role,
        state="awaited"
        if not role.served
        else "starved"
        if not healthy
        else "degraded"
        if healthy < count
        else "ok",
        workers=count,
        healthy=healthy,
        queue=role.queue,
        waiting_s=role.starved_s,
        fingerprint=role.fingerprint,
        last_loss=clean(role.last_loss, 300),
    )


def _workers(view: DispatchView) -> tuple[WorkerStatus, ...]:
    return tuple(
        WorkerStatus(
            name=worker.name,
            role=worker.role,
            host=worker.host,
            engine=clean(worker.engine),
            model=clean(worker.model),
            dtype=clean(worker.dtype),
            state=worker.state,
            busy_s=None if worker.doing is None else worker.doing.busy_s,
            atoms=None if worker.doing is None else worker.doing.atoms,
            silent_s=worker.silent_for_s,
            jobs=worker.tally.jobs,
            mean_s=worker.tally.mean_s,
        )
        for worker in view.workers[:MOST_WORKERS]
    )


def _evaluations(recorder: Recorder) -> EvaluationStatus:
    report, statistics = recorder.latest, recorder.statistics
    latest = {} if report is None else {name: getattr(report, name) for name in _LATEST}
    return EvaluationStatus(
        total=sum(recorder.counts.values()),
        per_s=statistics.per_s,
        last_age_s=statistics.age_s,
        **latest,
    )
