"""Checks frames and results against [limits] before they are evaluated or sent to i-PI.

A refusal names the closest atoms and the likely cause. A job that no worker could evaluate is
explained by its structure, where that is the cause.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import Final

import numpy as np

from mixserver.config import Channel, Limits
from mixserver.core.arrays import Vectors
from mixserver.core.cell import has_volume, minimum_image
from mixserver.core.errors import BadInput, Implausible, WorkerFault
from mixserver.core.frame import Frame, Topology
from mixserver.server.evaluator import Answer
from mixserver.server.reference.packing import (
    MIN_NEIGHBOUR_FRACTION,
    Packing,
    check_packing,
    measure_packing,
)
from mixserver.server.reference.plausibility import (
    implausible_energy,
    implausible_forces,
    implausible_positions,
    implausible_pressure,
)
from mixserver.server.warnings.warning_log import WarningLog
from mixserver.wire.ipi import Reply, Request

_STRIDE: Final = 0.5
"""Å that atoms hardly move between two evaluations, if these are steps of one replica."""
_SELDOM: Final = 200.0
"""The distances between all atoms are looked at again after this many times what that takes."""
_KEPT: Final = 256
_KEPT_BYTES: Final = 1 << 20
"""Of earlier evaluations, to report how far atoms have moved: as many as beads, if they are small.
The next request cannot reuse memory that is kept: 16 MB cost a tenth of the evaluator's own time
at 8000 atoms."""


class GuardedEvaluator:
    """An `Answer` that refuses what is beyond the limits.

    The distances between all atoms are looked at before the first evaluation is begun,
    again whenever half a percent of the time has gone into it, and where an answer is refused.
    Energy, pressure, forces and places are looked at every time. Where all passes through to one
    model (not `mixed`), nothing is refused, only explained. Pairs closer than `close_pair` of the
    sum of their covalent radii are warned of.
    """

    def __init__(
        self,
        answer: Answer,
        topology: Topology,
        limits: Limits,
        *,
        mixed: bool,
        warnings: WarningLog | None = None,
        close_pair: float = 0.0,
    ) -> None:
        self._answer = answer
        self._topology = topology
        self._limits = limits
        self._mixed = mixed
        self._first: dict[Channel, float] = {}
        """eV, the first energy of each channel."""
        kept = max(1, min(_KEPT, _KEPT_BYTES // (24 * max(1, len(topology)))))
        self._before: deque[Vectors] = deque(maxlen=kept)
        """Positions of earlier evaluations, of all beads and systems."""
        self._due = -math.inf
        """When to look at distances again, on the clock of `time.monotonic`."""
        self._warnings = warnings
        self._close_pair = close_pair

    async def __call__(self, request: Request, channel: Channel = "mixed") -> Reply:
        """Answer one request, or refuse to.

        Raises:
            Implausible: the structure or the answer is beyond a limit.
            MixserverError: as the evaluation that is guarded.
        """
        if len(request.positions) != len(self._topology):
            return await self._answer(request, channel)  # which raises an error about it
        frame = Frame(self._topology, request.positions, request.cell)
        if self._mixed and time.monotonic() >= self._due:
            await self._look(frame)
        try:
            reply = await self._answer(request, channel)
        except (BadInput, WorkerFault) as error:
            explained = await self._explained(error, frame)
            if explained is error:
                raise
            raise explained from error
        if self._mixed and (wrong := self._wrong(frame, reply, channel)):
            raise Implausible(await self._refusal(wrong, frame))
        self._before.append(request.positions)
        return reply

    async def _look(self, frame: Frame) -> None:
        """Look at the distances between all atoms."""
        if not np.isfinite(frame.positions).all() or not has_volume(frame.cell):
            return  # the evaluation raises an error about it
        if wrong := implausible_positions(frame):
            raise Implausible(f"{wrong}. {_EXPLODED}")
        began = time.monotonic()
        self._due = math.inf  # until this look is over
        took = 0.0  # refused, or given up because i-PI went: the next frame is looked at
        try:
            seen = await asyncio.to_thread(measure_packing, frame)
            check_packing(frame, seen, self._limits, "what i-PI sent")
            took = time.monotonic() - began
        finally:
            self._due = time.monotonic() + _SELDOM * took
        pair = seen.closest
        if pair is not None and pair.fraction < self._close_pair and self._warnings is not None:
            self._warnings.warn(
                "pair",
                "two atoms are closer than models are made for, unless they have a repulsive core: "
                f"{pair}; warnings.shortest_pair = {self._close_pair:g}",
            )

    def _wrong(self, frame: Frame, reply: Reply, channel: Channel) -> str:
        """What is wrong with an answer, or ""."""
        limits, first = self._limits, self._first.setdefault(channel, reply.energy)
        return (
            implausible_energy(reply.energy, first, len(frame), limits)
            or implausible_pressure(reply.virial, frame.cell, limits)
            or implausible_forces(frame, reply.forces, limits)
        )

    async def _refusal(self, wrong: str, frame: Frame) -> str:
        """A refusal with the closest atoms and the likely cause."""
        if places := implausible_positions(frame):
            return f"{wrong}, and {places}. {_EXPLODED}"
        seen = await asyncio.to_thread(measure_packing, frame)
        pair = f". The closest atoms: {seen.closest}" if seen.closest is not None else ""
        cause = _SOUND if not _odd(seen) else _LATER if self._before else _AT_START
        return f"{wrong}{pair}. {self._moved(frame)}{cause}"

    async def _explained(self, error: BadInput | WorkerFault, frame: Frame) -> Exception:
        """Whose fault it is that no worker could evaluate a frame."""
        if places := implausible_positions(frame):
            return Implausible(f"{places}. {_EXPLODED} What came of it: {error}")
        seen = await asyncio.to_thread(measure_packing, frame)
        if not _odd(seen):
            if moved := self._moved(frame, _STRIDE):
                error.args = (f"{str(error).rstrip('.')}. {moved}{_FAST}", *error.args[1:])
            return error
        cause = _LATER if self._before else _AT_START
        return Implausible(
            f"the structure is to blame, not the workers: {seen.closest}. {self._moved(frame)}"
            f"{cause}. What came of it: {error}"
        )

    def _moved(self, frame: Frame, least: float = 0.0) -> str:
        """How far atoms have moved, in a sentence; "" if that is less than `least` (Å).

        Nothing says which evaluations were of the same bead and system: the nearest is taken.
        """
        apart = [
            minimum_image((frame.positions - old) @ frame.inverse, frame.topology.pbc) @ frame.cell
            for old in self._before
        ]
        moved = min((float(np.linalg.norm(one, axis=1).max()) for one in apart), default=-1.0)
        if moved < least:
            return ""
        return f"An atom has moved by {moved:.3g} Å since the nearest evaluation before. "


def _odd(seen: Packing) -> bool:
    """Whether some atoms are too close for a material at rest."""
    return seen.closest is not None and seen.closest.fraction < MIN_NEIGHBOUR_FRACTION


_EXPLODED: Final = "The integrator has blown up: is the time step too long?"
_AT_START: Final = (
    "Look for overlapping atoms in the structure that i-PI starts from, and at the units of its "
    "positions and cell"
)
_LATER: Final = (
    "Atoms have run into each other: the time step may be too long, or a model attracts where it "
    "was not fitted"
)
_FAST: Final = (
    "That is far for one step: the time step may be too long, or i-PI has gone to another structure"
)
_SOUND: Final = (
    "The distances look sound, so a model is far outside of what it was fitted to, or mixing.zeros "
    "or the dead loads are wrong. Each bound can be raised in [limits], or switched off with inf"
)
