r"""Ghost forces: forces that energy mixing adds because two models divide the energy differently.

At one frame they are the energy-mixed forces minus the force-mixed ones, which have none. This
module measures them and the strain that they cause; `ghost_advice` turns the numbers into findings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from mixserver.core.arrays import Indices, Scalars, Vectors
from mixserver.core.cell import largest_empty_arc, minimum_image, plane_spacings
from mixserver.core.frame import Frame
from mixserver.mixing.dead_loads import DeadLoads
from mixserver.mixing.energy_reference import EnergyReference
from mixserver.mixing.jobs import whole_system_job
from mixserver.mixing.mixer import MixedResult, Mixer
from mixserver.region.region import Region
from mixserver.server.mixers import ModelPair, evaluate
from mixserver.server.mixing_setup import MixingSetup

NEGLIGIBLE: Final = 0.02
"""eV/Å; ghost forces up to this are negligible for most purposes."""
_STRAIN: Final = 5e-3
"""Linear strain at which the bulk modulus is measured."""
_GAP: Final = 4.0
"""Å without core or blend along each periodic axis, for a region to count as compact."""


@dataclass(frozen=True)
class GhostForces:
    """Ghost forces at one frame."""

    frame: Frame
    region: Region
    forces: Vectors
    """(N, 3) eV/Å, energy-mixed minus force-mixed."""
    mixed: MixedResult
    """The energy-mixed result."""

    @cached_property
    def sizes(self) -> Scalars:
        """Their magnitudes (N,) eV/Å."""
        lengths: Scalars = np.linalg.norm(self.forces, axis=1)
        return lengths

    @property
    def largest(self) -> float:
        """The largest (eV/Å) of any atom: core and bulk next to the blend have ghost forces too."""
        return float(self.sizes.max(initial=0.0))

    @property
    def rms(self) -> float:
        """The root mean square (eV/Å) over the blend."""
        blend = self.blend
        return float(np.sqrt(np.mean(self.sizes[blend] ** 2))) if len(blend) else 0.0

    @property
    def blend(self) -> Indices:
        """The atoms (n,) with 0 < lambda < 1."""
        fraction = self.region.lambda_
        return np.flatnonzero((fraction > 0.0) & (fraction < 1.0))

    def with_dead_loads(self, loads: DeadLoads) -> GhostForces:
        """The ghost forces that remain with dead loads."""
        forces = self.forces.copy()
        forces[loads.atoms] += loads.forces
        return replace(self, forces=forces)


def region_function(setup: MixingSetup, region: Region) -> Callable[[Frame], Region]:
    """A function from frames near the structure to their regions.

    The structure's region stays if lambda is constant between updates of the region.
    """
    region_model = setup.fresh()
    if region_model.evaluation(setup.start).selects:
        held = Region(region.lambda_, region.seeds)
        return lambda _: held
    return lambda frame: region_model.evaluation(frame).region()


async def measure_ghost_forces(
    setup: MixingSetup, reaches: ModelPair, state: EnergyReference, frame: Frame, region: Region
) -> GhostForces:
    """Measure the ghost forces at a frame, without dead loads.

    Raises:
        ConfigError: the receptive field of the expensive model is unknown, so that forces cannot be
            mixed exactly.
    """
    by_energy: Mixer = setup.energy_mixer(reaches, state, loads=False)
    by_force: Mixer = setup.force_mixer(reaches, exact=True)
    energy_mixed, force_mixed = await asyncio.gather(
        evaluate(setup.dispatcher, by_energy, frame, region),
        evaluate(setup.dispatcher, by_force, frame, region),
    )
    return GhostForces(frame, region, energy_mixed.forces - force_mixed.forces, energy_mixed)


async def ghost_strain(setup: MixingSetup, ghost: GhostForces) -> float | None:
    r"""The linear strain of an unconstrained region that is equivalent to the ghost forces.

    .. math::
        p = -\frac{1}{3V} \sum_i (r_i - r_\mathrm{centre}) \cdot f_i, \qquad
        \epsilon = -\frac{p}{3B}

    over all atoms with ghost forces f; V is the volume of core and blend, B the bulk modulus of the
    cheap model. The surrounding crystal constrains the region, so the actual strain is smaller.

    Returns:
        None if the region is not compact, the system not periodic, or B not positive.
    """
    if not all(ghost.frame.topology.pbc) or not len(ghost.region.active):
        return None
    relative = _relative_positions(ghost)
    if relative is None:
        return None
    modulus = await bulk_modulus(setup)
    if modulus <= 0.0:
        return None
    volume = ghost.frame.volume * len(ghost.region.active) / len(ghost.frame)
    pressure = -float(np.vdot(relative, ghost.forces)) / (3.0 * volume)
    return -pressure / (3.0 * modulus)


async def bulk_modulus(setup: MixingSetup) -> float:
    """The cheap model's bulk modulus (eV/Å³) at the structure, from the virial at two strains."""
    start = setup.start
    frames = [
        start.topology.frame(start.positions * scale, start.cell * scale)
        for scale in (1.0 - _STRAIN, 1.0 + _STRAIN)
    ]
    answers = await setup.dispatcher.run([("cheap", whole_system_job(f)) for f in frames])
    small, large = (
        float(np.trace(answer.result.virial)) / (3.0 * frame.volume)
        for answer, frame in zip(answers, frames, strict=True)
    )
    return -start.volume * (large - small) / (frames[1].volume - frames[0].volume)


def _relative_positions(ghost: GhostForces) -> Vectors | None:
    """Positions (N, 3) Å from the middle of core and blend; None if they span the cell."""
    fractional = ghost.frame.fractional
    middle = np.empty(3)
    for axis, spacing in enumerate(plane_spacings(ghost.frame.cell)):
        empty = largest_empty_arc(fractional[ghost.region.active, axis])
        if empty.width * spacing < _GAP:
            return None
        middle[axis] = empty.start + 0.5 * empty.width + 0.5
    return minimum_image(fractional - middle, (True, True, True)) @ ghost.frame.cell
