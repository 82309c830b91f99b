"""Trajectories of i-PI that run at the same time, each with a session of its own.

They share the workers: no i-PI waits for another's forces, so all workers stay busy.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from mixserver.core.frame import Frame, Topology
from mixserver.distill.data.nvt_input import SOCKET, TrajectoryPlan
from mixserver.distill.progress import StepProgress
from mixserver.ipi.process import run_ipi
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import Result

_R_co = TypeVar("_R_co", covariant=True)
_R = TypeVar("_R")


class Trajectory(Protocol[_R_co]):
    """One trajectory that can be run."""

    plan: TrajectoryPlan
    steps_done: int

    async def run(self, report: Callable[[], None]) -> _R_co:
        """Run it to its end; `report` is called after each step."""


async def run_trajectories(
    trajectories: Sequence[Trajectory[_R]], progress: StepProgress | None = None
) -> list[_R]:
    """Run all at the same time; after the first error, end the others in order."""
    total = sum(one.plan.steps for one in trajectories)

    def report() -> None:
        if progress is not None:
            progress(sum(one.steps_done for one in trajectories), total)

    tasks = [asyncio.create_task(one.run(report)) for one in trajectories]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            if not task.cancelling():  # a second cancellation would disturb i-PI's orderly end
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_md(
    trajectory: Trajectory[object],
    source: Path,
    topology: Topology,
    evaluate: Callable[[Frame, int], Awaitable[Result]],
    report: Callable[[], None],
) -> None:
    """Let i-PI run a trajectory from an input or RESTART to its end.

    `steps_done` is updated; the first error of `evaluate` ends the trajectory.
    """
    steps = itertools.count(trajectory.steps_done)

    async def answer(request: Request) -> Reply:
        step = next(steps)
        result = await evaluate(topology.frame(request.positions, request.cell), step)
        trajectory.steps_done = step
        report()
        return Reply(energy=result.energy, forces=result.forces, virial=result.virial, extras="")

    await run_ipi(f"i-PI {trajectory.plan.name}", source, SOCKET, answer)
