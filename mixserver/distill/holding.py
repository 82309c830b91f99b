"""Does the crystal hold in the cheap potential's own dynamics? And where it breaks, how?

A potential may have small errors in every structure of the expensive model's dynamics and a hole
beside them, into which its own atoms fall. So i-PI moves the crystal by the cheap potential, hotter
than it was sampled, and frames of what went wrong are kept to be labelled and fitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.arrays import Vectors
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill import nvt
from mixserver.distill.driving import drive
from mixserver.distill.nvt import Plan
from mixserver.distill.recipe import Hold, Soft
from mixserver.distill.stability import AWAY, LARGEST, closest, nearest_distance
from mixserver.errors import EvaluationError, MixserverError
from mixserver.frame import Frame
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import Evaluate

_HOTTER: Final = 1.2
"""Times the highest temperature that was sampled."""
_FARTHER: Final = 1.3
"""Times the farthest that an atom of the expensive model's dynamics was from its site: those of the
cheap one may go as far."""
_LOOK_FS: Final = 10.0
"""Between two looks."""
_KEPT_FS: Final = 50.0
"""Between two frames that are kept."""
_BEFORE: Final = 3
"""Kept frames from before an atom left its site: the way there is to be learned too."""
_AFTER: Final = 4
"""Kept frames from then on."""
_STRAYED: Final = 0.3
"""Of the nearest neighbours' distance: unless an atom is so far from its site no two can touch."""
_COLLAPSED: Final = 0.35
"""Of the nearest neighbours' distance: atoms nearer to each other than this have fallen into a
hole, and what a potential says of them means nothing."""
_STREAM: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class Fate:
    """What became of a crystal."""

    temperature: float
    """K, of the thermostat."""
    copy: int
    broke_ps: float | None
    """When an atom had left its site; None if all held."""
    frames: tuple[Frame, ...] = ()
    """Around that moment."""


class _Enough(MixserverError):
    """Nothing more is to be seen in this trajectory."""


def temperature(hold: Hold, soft: Soft) -> float:
    """K, at which the crystal must hold."""
    return hold.temperature or _HOTTER * max(soft.temperatures)


def farthest(snapshots: Iterable[Vectors], sites: Frame) -> float:
    """Å that an atom may be from its site.

    Args:
        snapshots: (N, 3) Å each, of the expensive model's dynamics.
        sites: the crystal they began from.
    """
    most = AWAY * nearest_distance(sites)
    for positions in snapshots:
        most = max(most, _FARTHER * _away(positions, sites))
    return most


async def held(
    hold: Hold,
    soft: Soft,
    sites: Frame,
    dispatcher: Dispatcher,
    folder: Path,
    *,
    most: float,
    told: Callable[[int, int], None],
) -> list[Fate]:
    """Move the crystal by the cheap potential.

    Args:
        hold: how long, how hot, how often.
        soft: time step, friction and seed.
        sites: the perfect supercell, as i-PI wants its cell.
        dispatcher: has the cheap model.
        folder: for i-PI's files; exists, and is empty.
        most: Å, see `farthest`.
        told: how many steps are made, of all.

    Raises:
        MixserverError: i-PI or the workers failed.
    """
    kelvin = temperature(hold, soft)
    runs = [
        _Run(_plan(hold, soft, kelvin, copy), sites, dispatcher, folder, most)
        for copy in range(hold.copies)
    ]
    total = sum(run.plan.steps for run in runs)

    def tell() -> None:
        told(sum(run.made for run in runs), total)

    tasks = [asyncio.create_task(run.fate(tell)) for run in runs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _plan(hold: Hold, soft: Soft, kelvin: float, copy: int) -> Plan:
    key = [soft.seed, round(1e3 * kelvin), 1_000 + copy]
    steps = max(1, round(1e3 * hold.ps / soft.timestep_fs))
    return Plan(
        temperature=kelvin,
        copy=copy,
        seed=int(np.random.SeedSequence(key).generate_state(1)[0] >> 1),
        timestep_fs=soft.timestep_fs,
        friction_fs=soft.friction_fs,
        every=steps,
        skipped=0,
        snapshots=1,
    )


class _Run:
    """One trajectory."""

    def __init__(
        self, plan: Plan, sites: Frame, dispatcher: Dispatcher, folder: Path, most: float
    ) -> None:
        self.plan = plan
        self.made = 0
        self._sites, self._dispatcher, self._folder = sites, dispatcher, folder
        self._most = most
        self._spacing = nearest_distance(sites)
        self._look = max(1, round(_LOOK_FS / plan.timestep_fs))
        self._keep = max(1, round(_KEPT_FS / plan.timestep_fs))
        self._before: deque[Frame] = deque(maxlen=_BEFORE)
        self._after: list[Frame] = []
        self._broke: int | None = None

    async def fate(self, tell: Callable[[], None]) -> Fate:
        """Run it to its end, or till nothing more is to be learned from it."""
        part = self._folder / self.plan.name
        part.mkdir()
        source = nvt.write_input(self.plan, self._sites, part)
        steps = itertools.count()

        async def answer(request: Request) -> Reply:
            step = next(steps)
            reply = await self._ask(request, step)
            self.made = step
            tell()
            return reply

        with contextlib.suppress(_Enough):
            await drive(f"i-PI {self.plan.name}", source, nvt.SOCKET, answer)
        self.made = self.plan.steps
        tell()
        broke = None if self._broke is None else self.plan.time_ps(self._broke)
        frames = () if broke is None else (*self._before, *self._after)
        return Fate(self.plan.temperature, self.plan.copy, broke, frames)

    async def _ask(self, request: Request, step: int) -> Reply:
        frame = self._sites.topology.frame(request.positions, request.cell)
        self._collapsed(frame, step)
        question = Evaluate(
            job=0,
            stream=_STREAM + self.plan.copy,
            positions=frame.wrapped,
            numbers=frame.topology.numbers,
            cell=frame.cell,
            pbc=frame.topology.pbc,
        )
        try:
            (reply,) = await self._dispatcher.run([("cheap", question)])
        except EvaluationError as error:  # LAMMPS gives up on what is no crystal any more
            self._broke = step if self._broke is None else self._broke
            raise _Enough(f"it cannot be evaluated: {error}") from error
        result = reply.result
        self._note(frame, result.forces, step)
        return Reply(energy=result.energy, forces=result.forces, virial=result.virial, extras="")

    def _collapsed(self, frame: Frame, step: int) -> None:
        """Look whether atoms fall into each other, where LAMMPS would end.

        Raises:
            _Enough: they do.
        """
        if _away(frame.positions, self._sites) < _STRAYED * self._spacing:
            return
        if closest(frame, _COLLAPSED * self._spacing) is not None:
            self._broke = step if self._broke is None else self._broke
            raise _Enough("atoms fell into each other")

    def _note(self, frame: Frame, forces: Vectors, step: int) -> None:
        """Look whether all atoms are at their sites, and keep frames.

        Raises:
            _Enough: it broke some time ago, or is torn to pieces.
        """
        torn = float(np.abs(forces).max()) > LARGEST
        if self._broke is None:
            looked = step % self._look == 0
            if torn or (looked and _away(frame.positions, self._sites) > self._most):
                self._broke = step
        if step % self._keep == 0 or self._broke == step:
            (self._before if self._broke is None else self._after).append(frame)
        if torn or len(self._after) >= _AFTER:
            raise _Enough("it broke")


def _away(positions: Vectors, sites: Frame) -> float:
    """Å of the atom farthest from its site, drift of all taken off."""
    moved = positions - sites.positions
    moved = moved - np.median(moved, axis=0)
    return float(np.linalg.norm(moved, axis=1).max())
