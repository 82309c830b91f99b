r"""Ghost forces: what energy mixing adds to forces because two models divide energy differently.

At one frame they are the energy-mixed forces minus the force-mixed ones, which have none. Measures
them, and what they do; says nothing about what to do about them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from mixserver.arrays import Indices, Scalars, Vectors
from mixserver.frame import Frame
from mixserver.mixing.loads import DeadLoads
from mixserver.mixing.mixer import Mixed, Mixer, about_all
from mixserver.mixing.state import State
from mixserver.prepare import Preparation, Reaches, evaluate
from mixserver.region.region import Region

_STRAIN: Final = 5e-3
"""Linear strain at which the bulk modulus is measured."""
_GAP: Final = 4.0
"""Å without core or blend, along each periodic axis, that make a region compact."""


@dataclass(frozen=True)
class Ghosts:
    """Ghost forces at one frame."""

    frame: Frame
    region: Region
    forces: Vectors
    """(N, 3) eV/Å, energy-mixed minus force-mixed."""
    mixed: Mixed
    """The energy-mixed answer."""

    @cached_property
    def sizes(self) -> Scalars:
        """(N,) eV/Å."""
        lengths: Scalars = np.linalg.norm(self.forces, axis=1)
        return lengths

    @property
    def largest(self) -> float:
        """eV/Å, of any atom: core and bulk next to the blend have some too."""
        return float(self.sizes.max(initial=0.0))

    @property
    def rms(self) -> float:
        """eV/Å, root mean square over the blend."""
        blend = self.blend
        return float(np.sqrt(np.mean(self.sizes[blend] ** 2))) if len(blend) else 0.0

    @property
    def blend(self) -> Indices:
        """(n,) atoms with 0 < lambda < 1."""
        share = self.region.expensive
        return np.flatnonzero((share > 0.0) & (share < 1.0))

    def loaded(self, loads: DeadLoads) -> Ghosts:
        """What is left of them under dead loads."""
        forces = self.forces.copy()
        forces[loads.atoms] += loads.forces
        return replace(self, forces=forces)


def divider(preparation: Preparation, region: Region) -> Callable[[Frame], Region]:
    """How frames near the structure are divided.

    Args:
        preparation: the case.
        region: of the structure; it stays where lambda is held between choices.
    """
    selector = preparation.fresh()
    if selector.due(0).choose:
        held = Region(region.expensive, region.seeds)
        return lambda _: held
    return selector.select


async def ghosts(
    preparation: Preparation, reaches: Reaches, state: State, frame: Frame, region: Region
) -> Ghosts:
    """Measure the ghost forces at a frame, without dead loads.

    Raises:
        ConfigError: nobody knows how far the expensive model looks, so that forces cannot be mixed
            exactly.
    """
    by_energy: Mixer = preparation.energy_mixer(reaches, state, loads=False)
    by_force: Mixer = preparation.force_mixer(reaches, exact=True)
    have, want = await asyncio.gather(
        evaluate(preparation.dispatcher, by_energy, frame, region),
        evaluate(preparation.dispatcher, by_force, frame, region),
    )
    return Ghosts(frame, region, have.forces - want.forces, have)


async def strain(preparation: Preparation, ghost: Ghosts) -> float | None:
    r"""How much the ghost forces want to stretch the region, as a linear strain.

    .. math::
        p = -\frac{1}{3V} \sum_i (r_i - r_\mathrm{centre}) \cdot f_i, \qquad
        \epsilon = -\frac{p}{3B}

    over all atoms with ghost forces f; V is the volume of core and blend, B the bulk modulus of the
    cheap model. The region is held by what surrounds it, so it stretches by less.

    Returns:
        None where the region is not compact, the system not periodic, or B not positive.
    """
    if not all(ghost.frame.topology.pbc) or not len(ghost.region.active):
        return None
    where = _unrolled(ghost)
    if where is None:
        return None
    modulus = await bulk_modulus(preparation)
    if modulus <= 0.0:
        return None
    volume = ghost.frame.volume * len(ghost.region.active) / len(ghost.frame)
    pressure = -float(np.vdot(where, ghost.forces)) / (3.0 * volume)
    return -pressure / (3.0 * modulus)


async def bulk_modulus(preparation: Preparation) -> float:
    """eV/Å³ of the cheap model at the structure, from the virial at two strains."""
    start = preparation.start
    frames = [
        start.topology.frame(start.positions * scale, start.cell * scale)
        for scale in (1.0 - _STRAIN, 1.0 + _STRAIN)
    ]
    answers = await preparation.dispatcher.run([("cheap", about_all(f)) for f in frames])
    small, large = (
        float(np.trace(answer.result.virial)) / (3.0 * frame.volume)
        for answer, frame in zip(answers, frames, strict=True)
    )
    return -start.volume * (large - small) / (frames[1].volume - frames[0].volume)


def _unrolled(ghost: Ghosts) -> Vectors | None:
    """(N, 3) Å from the middle of core and blend; None if these span the cell along some axis."""
    fractional = ghost.frame.fractional
    heights = 1.0 / np.linalg.norm(ghost.frame.inverse, axis=0)
    away = np.empty_like(fractional)
    for axis in range(3):
        place = fractional[:, axis] % 1.0
        taken = np.sort(place[ghost.region.active])
        gaps = np.diff(taken, append=taken[0] + 1.0)
        widest = int(gaps.argmax())
        if gaps[widest] * heights[axis] < _GAP:
            return None
        middle = taken[widest] + 0.5 * gaps[widest] + 0.5
        away[:, axis] = place - middle
        away[:, axis] -= np.rint(away[:, axis])
    return away @ ghost.frame.cell
