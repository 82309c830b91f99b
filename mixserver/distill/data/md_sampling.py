"""MD sampling: snapshots of the hot crystal; i-PI moves it by the expensive model.

A trajectory that was interrupted continues from i-PI's last state.
"""

from __future__ import annotations

import itertools
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from mixserver.analysis.bulk.evaluate import evaluate_whole
from mixserver.core.arrays import Vectors
from mixserver.core.atomic_write import atomic_writer
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.config.schema import Soft
from mixserver.distill.data import nvt_input as nvt
from mixserver.distill.data.melting import CrystalMonitor, check_temperature
from mixserver.distill.data.nvt_input import TrajectoryPlan
from mixserver.distill.data.trajectories import run_md, run_trajectories
from mixserver.distill.progress import StepProgress
from mixserver.wire.worker import Result

log = structlog.get_logger(__name__)

_CHECK_EVERY: Final = 5
"""Steps between two checks that the crystal is intact."""
_RESULT: Final = "snapshots.npz"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One frame of a trajectory."""

    name: str
    """Unique in a distillation."""
    temperature: float
    """K, of the thermostat."""
    copy: int
    """Number of the trajectory among those at this temperature."""
    time_ps: float
    """Since the start."""
    frame: Frame


async def sample(
    soft: Soft,
    crystal: Frame,
    dispatcher: Dispatcher,
    folder: Path,
    *,
    progress: StepProgress | None = None,
) -> list[Snapshot]:
    """Take snapshots of the hot crystal at all temperatures, a perfect supercell to begin with.

    If its cell is not oriented as i-PI requires, the snapshots are rotated. Each trajectory has its
    own folder; finished ones are not repeated.

    Returns:
        The snapshots by temperature (in the order of the recipe), copy and time.

    Raises:
        ConfigError: a trajectory is not one of a hot crystal: the model is not stable, the time
            step too long, the crystal melts. The message states the temperature and the time.
        UpstreamError: i-PI could not run; the message quotes its log.
        EvaluationError: the model rejects a frame, or no worker is left.
    """
    sites = nvt.oriented_for_ipi(crystal)
    trajectories = [
        _SampledTrajectory(plan, sites, dispatcher, folder / plan.name, stream)
        for stream, plan in enumerate(nvt.plan_trajectories(soft))
    ]
    parts = await run_trajectories(trajectories, progress)
    return list(itertools.chain.from_iterable(parts))


@dataclass(eq=False)
class _SampledTrajectory:
    """One trajectory, to be run or finished in an earlier start."""

    plan: TrajectoryPlan
    sites: Frame
    dispatcher: Dispatcher
    folder: Path
    stream: int
    steps_done: int = 0

    def __post_init__(self) -> None:
        self._monitor = CrystalMonitor(self.sites, self.plan.temperature, self.plan.timestep_fs)

    async def run(self, report: Callable[[], None]) -> list[Snapshot]:
        """Its snapshots; see `sample`."""
        file = self.folder / _RESULT
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            await self._continue(report)
            with atomic_writer(file) as stream:
                np.savez(stream, positions=self._gather())
        self.steps_done = self.plan.steps
        report()
        positions = _load(file, self.plan, len(self.sites))
        return [
            Snapshot(
                f"{self.plan.name}-{step:06d}",
                self.plan.temperature,
                self.plan.copy,
                self.plan.time_ps(step),
                self.sites.topology.frame(frame, self.sites.cell),
            )
            for step, frame in zip(self.plan.wanted, positions, strict=True)
        ]

    async def _continue(self, report: Callable[[], None]) -> None:
        """Run the steps that are missing."""
        parts = self._parts()
        last = nvt.latest(parts)
        self.steps_done = 0 if last is None else last[0]
        if self.steps_done >= self.plan.steps:
            return
        part = self.folder / f"part-{len(parts) + 1:03d}"
        part.mkdir()
        if last is None:
            source = nvt.write_input(self.plan, self.sites, part)
        else:
            source = part / "RESTART.in"
            shutil.copyfile(last[1], source)
            log.info("trajectory continues", trajectory=self.plan.name, step=self.steps_done)
        await run_md(self, source, self.sites.topology, self._evaluate, report)

    async def _evaluate(self, frame: Frame, step: int) -> Result:
        result = await evaluate_whole(self.dispatcher, "expensive", frame, stream=self.stream)
        if step % _CHECK_EVERY == 0:
            self._monitor.check(frame, result.forces, self.plan.time_ps(step))
        return result

    def _gather(self) -> Vectors:
        """The snapshots (S, N, 3) Å from i-PI's files, with their temperature checked."""
        parts, plan = self._parts(), self.plan
        positions = nvt.read_positions(parts, self.sites)
        temperatures = nvt.read_temperatures(parts)
        missing = [s for s in plan.wanted if s not in positions or s not in temperatures]
        if missing:
            raise ConfigError(
                f"the trajectory in {self.folder} lacks step {missing[0]}, though i-PI has "
                f"completed {plan.steps}; delete the folder to repeat it"
            )
        kelvin = [value for step, value in temperatures.items() if step > plan.skipped]
        check_temperature(float(np.mean(kelvin)), plan.temperature, len(self.sites))
        return np.stack([positions[step] for step in plan.wanted])

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-[0-9]*"))


def _load(file: Path, plan: TrajectoryPlan, atoms: int) -> Vectors:
    """The positions (S, N, 3) Å of all snapshots of a trajectory."""
    expected = (plan.snapshots, atoms, 3)
    try:
        with np.load(file, allow_pickle=False) as data:
            positions = np.asarray(data["positions"], dtype=np.float64)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{file} is not a file of snapshots ({error}); delete its folder to repeat them"
        ) from error
    if positions.shape != expected:
        raise ConfigError(
            f"{file} holds snapshots of shape {positions.shape}, expected {expected}; delete its "
            "folder to repeat them"
        )
    return positions
