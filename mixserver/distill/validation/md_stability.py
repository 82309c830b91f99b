"""MD stability test: does the crystal stay intact in the cheap potential's own dynamics?

Low errors on configurations sampled with the expensive model do not guarantee stability on those
that the fitted potential visits itself. So i-PI moves the crystal by the cheap potential, hotter
than it was sampled, and frames around a failure are kept to be labelled and fitted.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.analysis.bulk.evaluate import evaluate_whole
from mixserver.core.arrays import Vectors
from mixserver.core.errors import EvaluationError, MixserverError
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.config.schema import Hold, Soft
from mixserver.distill.data import nvt_input as nvt
from mixserver.distill.data.melting import AWAY, LARGEST, nearest_distance
from mixserver.distill.data.nvt_input import TrajectoryPlan
from mixserver.distill.data.trajectories import run_md, run_trajectories
from mixserver.distill.progress import StepProgress
from mixserver.geometry import shortest_distance
from mixserver.wire.worker import Result

_HOTTER: Final = 1.2
"""Times the highest temperature that was sampled."""
_FARTHER: Final = 1.3
"""Times the largest displacement in the expensive model's dynamics: the limit for the cheap one."""
_CHECK_FS: Final = 10.0
"""Between two checks."""
_KEEP_FS: Final = 50.0
"""Between two frames that are kept."""
_BEFORE: Final = 3
"""Frames kept from before an atom left its site: the way there must be learned too."""
_AFTER: Final = 4
"""Frames kept from then on."""
_STRAYED: Final = 0.3
"""Of the nearest-neighbour distance: atoms can collide only if one is farther from its site."""
_COLLAPSED: Final = 0.35
"""Of the nearest-neighbour distance: below it the results of a potential are meaningless."""
_STREAM: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class StabilityOutcome:
    """The outcome of one trajectory."""

    temperature: float
    """K, of the thermostat."""
    copy: int
    broke_ps: float | None
    """When an atom had left its site; None if none did."""
    frames: tuple[Frame, ...] = ()
    """Around that moment."""


class TrajectoryEnd(MixserverError):
    """Ends a trajectory early: the crystal failed, and enough frames are kept."""


def temperature(hold: Hold, soft: Soft) -> float:
    """The temperature (K) of the test."""
    return hold.temperature or _HOTTER * max(soft.temperatures)


def displacement_limit(snapshots: Iterable[Vectors], sites: Frame) -> float:
    """How far (Å) an atom may be from its site.

    The snapshots, positions (N, 3) Å, are from the expensive model's MD.
    """
    most = AWAY * nearest_distance(sites)
    for positions in snapshots:
        most = max(most, _FARTHER * _displacement(positions, sites))
    return most


async def run_stability_test(
    hold: Hold,
    soft: Soft,
    sites: Frame,
    dispatcher: Dispatcher,
    folder: Path,
    *,
    limit: float,
    progress: StepProgress | None = None,
) -> list[StabilityOutcome]:
    """Move the crystal, a perfect supercell oriented for i-PI, by the cheap potential.

    The folder exists and is empty; `limit` (Å) is of `displacement_limit`.

    Raises:
        MixserverError: i-PI or the workers failed.
    """
    kelvin = temperature(hold, soft)
    steps = max(1, round(1e3 * hold.ps / soft.timestep_fs))
    plans = [
        nvt.plan_trajectory(soft, kelvin, copy, first=1_000, every=steps, skipped=0, snapshots=1)
        for copy in range(hold.copies)
    ]
    runs = [
        _StabilityRun(plan, sites, dispatcher, folder, FailureMonitor(plan, sites, limit))
        for plan in plans
    ]
    return await run_trajectories(runs, progress)


@dataclass(eq=False)
class _StabilityRun:
    """One trajectory."""

    plan: TrajectoryPlan
    sites: Frame
    dispatcher: Dispatcher
    folder: Path
    monitor: FailureMonitor
    steps_done: int = 0

    async def run(self, report: Callable[[], None]) -> StabilityOutcome:
        """Run it to its end, or until enough frames of a failure are kept."""
        part = self.folder / self.plan.name
        part.mkdir()
        source = nvt.write_input(self.plan, self.sites, part)
        with contextlib.suppress(TrajectoryEnd):
            await run_md(self, source, self.sites.topology, self._evaluate, report)
        self.steps_done = self.plan.steps
        report()
        return self.monitor.outcome()

    async def _evaluate(self, frame: Frame, step: int) -> Result:
        self.monitor.before(frame, step)
        stream = _STREAM + self.plan.copy
        try:
            result = await evaluate_whole(self.dispatcher, "cheap", frame, stream=stream)
        except EvaluationError as error:  # LAMMPS fails on a destroyed crystal
            self.monitor.failed(step)
            raise TrajectoryEnd(f"it cannot be evaluated: {error}") from error
        self.monitor.after(frame, result.forces, step)
        return result


class FailureMonitor:
    """Follows one trajectory step by step: when does the crystal fail, and in which frames?"""

    def __init__(self, plan: TrajectoryPlan, sites: Frame, limit: float) -> None:
        self._plan, self._sites, self._limit = plan, sites, limit
        self._spacing = nearest_distance(sites)
        self._check = max(1, round(_CHECK_FS / plan.timestep_fs))
        self._keep = max(1, round(_KEEP_FS / plan.timestep_fs))
        self._before: deque[Frame] = deque(maxlen=_BEFORE)
        self._after: list[Frame] = []
        self._broke: int | None = None

    def before(self, frame: Frame, step: int) -> None:
        """Check, before a frame is evaluated, for colliding atoms, which would end LAMMPS.

        Raises:
            TrajectoryEnd: two atoms collided.
        """
        if _displacement(frame.positions, self._sites) < _STRAYED * self._spacing:
            return
        if np.isfinite(shortest_distance(frame, _COLLAPSED * self._spacing)):
            self.failed(step)
            raise TrajectoryEnd("two atoms collided")

    def after(self, frame: Frame, forces: Vectors, step: int) -> None:
        """Check whether all atoms are at their sites, and keep frames.

        Raises:
            TrajectoryEnd: the crystal failed some time ago, or a force is far too large.
        """
        torn = float(np.abs(forces).max()) > LARGEST
        if self._broke is None:
            checked = step % self._check == 0
            if torn or (checked and _displacement(frame.positions, self._sites) > self._limit):
                self._broke = step
        if step % self._keep == 0 or self._broke == step:
            (self._before if self._broke is None else self._after).append(frame)
        if torn or len(self._after) >= _AFTER:
            raise TrajectoryEnd("the crystal failed")

    def failed(self, step: int) -> None:
        """Record a failure, unless there was one before."""
        self._broke = step if self._broke is None else self._broke

    def outcome(self) -> StabilityOutcome:
        """The outcome so far."""
        broke = None if self._broke is None else self._plan.time_ps(self._broke)
        frames = () if broke is None else (*self._before, *self._after)
        return StabilityOutcome(self._plan.temperature, self._plan.copy, broke, frames)


def _displacement(positions: Vectors, sites: Frame) -> float:
    """The largest displacement (Å) from a site, without the common drift."""
    moved = positions - sites.positions
    moved = moved - np.median(moved, axis=0)
    return float(np.linalg.norm(moved, axis=1).max())
