"""The soft set's snapshots: i-PI moves the hot crystal, the expensive model answers.

All trajectories run at once, each with an i-PI and a session of its own, and share the workers: no
i-PI waits for another's forces, so all workers are busy to the end. A trajectory that was cut
short goes on from i-PI's last state.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from mixserver.arrays import Scalars, Vectors
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill import nvt
from mixserver.distill.driving import drive
from mixserver.distill.nvt import Plan
from mixserver.distill.recipe import Soft
from mixserver.distill.stability import Watch, check_temperature
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.whole import whole
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import Evaluate

log = structlog.get_logger(__name__)

Progress = Callable[[int, int], None]
"""Told (done, total)."""

_LOOK_EVERY: Final = 5
"""Evaluations between two looks at whether the crystal is still one."""
_RESULT: Final = "snapshots.npz"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One frame of a trajectory."""

    name: str
    """Unique in a distillation."""
    temperature: float
    """K, of the thermostat."""
    copy: int
    """Counts the trajectories of one temperature."""
    time_ps: float
    """Since the start."""
    frame: Frame


async def sample(
    soft: Soft,
    crystal: Frame,
    dispatcher: Dispatcher,
    folder: Path,
    *,
    progress: Progress | None = None,
) -> list[Snapshot]:
    """Take snapshots of the hot crystal at all temperatures.

    Args:
        soft: what to sample.
        crystal: a perfect supercell at the lattice constant wanted. Where its cell is not as i-PI
            wants it the snapshots are turned.
        dispatcher: has the expensive model.
        folder: exists; gets a folder per trajectory. Those that are done are not made again.
        progress: told how many steps are made, of all.

    Returns:
        The snapshots, by temperature as the recipe has them, copy and time.

    Raises:
        ConfigError: a trajectory is none of a hot crystal: the model is not stable, the time step
            too long, the crystal melts. Says at which temperature and when.
        UpstreamError: i-PI could not run; its last words are quoted.
        EvaluationError: the model refuses a frame, or nobody is left to ask.
    """
    sites = nvt.oriented(crystal)
    trajectories = [
        _Trajectory(plan, sites, dispatcher, folder / plan.name, stream)
        for stream, plan in enumerate(nvt.plans(soft))
    ]
    total = sum(trajectory.plan.steps for trajectory in trajectories)

    def tell() -> None:
        if progress is not None:
            progress(sum(trajectory.made for trajectory in trajectories), total)

    tasks = [asyncio.create_task(trajectory.snapshots(tell)) for trajectory in trajectories]
    try:
        parts = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            if not task.cancelling():  # twice would disturb i-PI's orderly end
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return list(itertools.chain.from_iterable(parts))


class _Trajectory:
    """One trajectory, made or found."""

    def __init__(
        self, plan: Plan, sites: Frame, dispatcher: Dispatcher, folder: Path, stream: int
    ) -> None:
        self.plan = plan
        self.made = 0
        """Steps."""
        self._sites = sites
        self._dispatcher = dispatcher
        self._folder = folder
        self._stream = stream
        self._watch = Watch(sites, plan.temperature, plan.timestep_fs)

    async def snapshots(self, tell: Callable[[], None]) -> list[Snapshot]:
        """Its snapshots; see `sample`."""
        file = self._folder / _RESULT
        if not file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            await self._run(tell)
            _save(file, self._gather())
        self.made = self.plan.steps
        tell()
        positions = _load(file, self.plan, self._sites.topology)
        return [
            Snapshot(
                f"{self.plan.name}-{step:06d}",
                self.plan.temperature,
                self.plan.copy,
                self.plan.time_ps(step),
                self._sites.topology.frame(frame, self._sites.cell),
            )
            for step, frame in zip(self.plan.wanted, positions, strict=True)
        ]

    async def _run(self, tell: Callable[[], None]) -> None:
        """Have i-PI make what is missing."""
        parts = self._parts()
        left = nvt.latest(parts)
        first = 0 if left is None else left[0]
        if first >= self.plan.steps:
            return
        part = self._folder / f"part-{len(parts) + 1:03d}"
        part.mkdir()
        if left is None:
            source = nvt.write_input(self.plan, self._sites, part)
        else:
            source = part / "RESTART.in"
            shutil.copyfile(left[1], source)
            log.info("trajectory goes on", trajectory=self.plan.name, step=first)
        self.made = first
        steps = itertools.count(first)

        async def answer(request: Request) -> Reply:
            step = next(steps)
            reply = await self._ask(request, step)
            self.made = step
            tell()
            return reply

        await drive(f"i-PI {self.plan.name}", source, nvt.SOCKET, answer)

    async def _ask(self, request: Request, step: int) -> Reply:
        frame = self._sites.topology.frame(request.positions, request.cell)
        question = Evaluate(
            job=0,
            stream=self._stream,
            positions=frame.wrapped,
            numbers=frame.topology.numbers,
            cell=frame.cell,
            pbc=frame.topology.pbc,
        )
        (reply,) = await self._dispatcher.run([("expensive", question)])
        result = reply.result
        if step % _LOOK_EVERY == 0:
            self._watch.look(frame, result.forces, self.plan.time_ps(step))
        return Reply(energy=result.energy, forces=result.forces, virial=result.virial, extras="")

    def _gather(self) -> Vectors:
        """(S, N, 3) Å, the snapshots out of i-PI's files, once more looked at."""
        parts, plan = self._parts(), self.plan
        positions = nvt.read_positions(parts, self._sites)
        temperatures = nvt.read_temperatures(parts)
        missing = [s for s in plan.wanted if s not in positions or s not in temperatures]
        if missing:
            raise ConfigError(
                f"the trajectory in {self._folder} lacks step {missing[0]}, though i-PI has made "
                f"{plan.steps}; delete the folder, and it is made again"
            )
        kelvin = [value for step, value in temperatures.items() if step > plan.skipped]
        check_temperature(float(np.mean(kelvin)), plan.temperature, len(self._sites))
        return np.stack([positions[step] for step in plan.wanted])

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-[0-9]*"))


def _save(file: Path, positions: Vectors) -> None:
    """Write it, whole or not at all."""
    with whole(file) as stream:
        np.savez(stream, positions=positions)


def _load(file: Path, plan: Plan, topology: Topology) -> Scalars:
    """(S, N, 3) Å."""
    expected = (plan.snapshots, len(topology), 3)
    try:
        with np.load(file, allow_pickle=False) as data:
            positions = np.asarray(data["positions"], dtype=np.float64)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{file} holds no snapshots ({error}); delete its folder, and they are made again"
        ) from error
    if positions.shape != expected:
        raise ConfigError(
            f"{file} holds snapshots of shape {positions.shape}, expected {expected}; delete its "
            "folder, and they are made again"
        )
    return positions
