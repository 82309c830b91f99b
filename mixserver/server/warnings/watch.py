"""Looks at a run while it goes on, beside the evaluations, and warns."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from mixserver.core.errors import NoWorkerError, Unphysical
from mixserver.ipi.dynamics import Dynamics
from mixserver.ipi.output import PropertiesTail
from mixserver.server.service import Service
from mixserver.server.warnings.report_checks import ReportChecks
from mixserver.server.warnings.run_checks import PropertyChecks, WorkerChecks

_PROPERTIES_S: Final = 1.0
"""Seconds between two looks at i-PI's properties."""
_WORKERS_S: Final = 10.0
"""Seconds between two looks at the workers."""


@contextlib.asynccontextmanager
async def watched(
    service: Service, dynamics: Dynamics | None = None, tail: PropertiesTail | None = None
) -> AsyncIterator[None]:
    """Inside this context reports, i-PI's properties and workers are looked at.

    Args:
        service: the server; a run that has blown up ends it.
        dynamics: how i-PI moves the atoms; None where it is started by hand.
        tail: i-PI's properties; None likewise.
    """
    parts = service.parts
    target = None if dynamics is None else dynamics.temperature
    once = dynamics is not None and dynamics.steps_evaluated_once
    step_fs = None if dynamics is None else dynamics.timestep_fs
    atoms = len(parts.topology)
    parts.recorder.inspector = ReportChecks(
        parts.config, atoms, parts.warnings, target, step_fs if once else None
    )
    checks = PropertyChecks(parts.config, atoms, parts.warnings, target, 1e-3 * (step_fs or 0.0))
    task = asyncio.create_task(
        _look(service, tail, checks, WorkerChecks(parts.config, parts.warnings))
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await _look_at_properties(service, tail, checks)  # the last steps


async def _look(
    service: Service,
    tail: PropertiesTail | None,
    properties: PropertyChecks,
    workers: WorkerChecks,
) -> None:
    due = time.monotonic() + _WORKERS_S
    while True:
        await asyncio.sleep(_PROPERTIES_S)
        if wrong := await _look_at_properties(service, tail, properties):
            service.stop(
                Unphysical(
                    f"the trajectory is not physical any more: {wrong}. Is the time step too "
                    "long, and its unit right? Look where i-PI's properties begin to go wrong"
                )
            )
            return
        if time.monotonic() >= due:
            due = time.monotonic() + _WORKERS_S
            try:
                workers.look(service.parts.dispatcher.view().workers)
            except NoWorkerError:
                return  # the server is closed


async def _look_at_properties(
    service: Service, tail: PropertiesTail | None, checks: PropertyChecks
) -> str:
    """Look at what i-PI has printed since the last time; the error that ends the run, or ""."""
    if tail is None:
        return ""
    lines = await asyncio.to_thread(tail.new)  # a file, perhaps on a slow disk
    for line in lines:
        if wrong := checks.look(line, service.parts.recorder.latest):
            return wrong
    return ""
