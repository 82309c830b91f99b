r"""Strain around an expensive inclusion in a cheap crystal that is sheared: what a misfit does.

Energies are mixed around a point of the perfect crystal as a run mixes them, with lambda frozen and
dead loads, so nothing moves before the cell is sheared. Where both models have the same elastic
constants the strain stays as uniform as with one of them. Where they have not, it is that of
Eshelby's inclusion (Proc. R. Soc. A 241, 376, 1957), and whatever is measured in it is measured
at another strain than was applied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from mixserver.arrays import Scalars, Vectors
from mixserver.crystal.asking import STREAM, Ask, Label, asking, both
from mixserver.crystal.elasticity import full, strained
from mixserver.crystal.inside import relaxed_inside
from mixserver.crystal.supercell import for_length, repeated
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.answers import telling
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.geometry import near_points
from mixserver.mixing.mixer import about_all
from mixserver.region.profiles import named
from mixserver.wire.worker import Result, Role

CORE: Final = 5.0
"""Å."""
BLEND: Final = 4.0
"""Å."""
SHEAR: Final = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.01])
"""Engineering shear in the plane of x and y."""
LENGTH: Final = 20.0
"""Å, of the supercell: with core and blend a sixth of it is expensive."""
_FORCE: Final = (0.01, 1e-6)
"""Atoms are at rest when forces are below this part of what they begin with, or below so many
eV/Å."""
_AROUND: Final = 2.0
"""Nearest distances within which neighbours define an atom's strain, or farther: in layers and
beside short bonds these lie in a plane."""
_SPAN: Final = 0.05
"""Of the widest direction: neighbours that span less in another say nothing of the strain there."""
_FARTHER: Final = 1.2
_FARTHEST: Final = 12.0
"""Å."""


@dataclass(frozen=True, eq=False)
class Inclusion:
    """An inclusion, and how it looks with the expensive model everywhere."""

    perfect: Frame
    """The supercell at rest."""
    sheared: Frame
    """The same sheared, at rest with the expensive model."""
    share: Scalars
    """(N,) lambda."""
    loads: Vectors
    """(N, 3) eV/Å, the expensive part of the forces in the perfect crystal."""


async def inclusion(
    dispatcher: Dispatcher,
    crystal: Frame,
    *,
    core: float = CORE,
    blend: float = BLEND,
    length: float = LENGTH,
    told: Callable[[], None] = lambda: None,
) -> Inclusion:
    """What all cheap models are compared with.

    Args:
        dispatcher: has the expensive model, which weights its sites.
        crystal: a cell of it at rest.
        core: Å.
        blend: Å.
        length: Å of the supercell, at least.
        told: called after each answer.

    Raises:
        ConfigError: the sheared crystal does not come to rest.
    """
    repeats = for_length(crystal, length)
    perfect = repeated(crystal, repeats)
    ask = telling(asking(dispatcher, "expensive"), told)
    cell = await relaxed_inside(ask, strained(crystal, SHEAR))
    share = _share(perfect, core, blend)
    mine = await _weighted(dispatcher, "expensive", perfect, share)
    return Inclusion(perfect, repeated(cell, repeats), share, mine.forces)


async def relaxed_inclusion(
    expensive: Dispatcher,
    cheap: Dispatcher,
    of: Inclusion,
    *,
    told: Callable[[], None] = lambda: None,
) -> Frame:
    """The sheared crystal at rest with both models mixed.

    Args:
        expensive: has the expensive model.
        cheap: has the cheap one.
        of: from `inclusion`.
        told: called after each answer.

    Raises:
        ConfigError: it does not come to rest.
    """
    rest = await _weighted(cheap, "cheap", of.perfect, 1.0 - of.share)
    mixed = telling(_mixed(expensive, cheap, of, of.loads + rest.forces), told)
    before = (await mixed(of.sheared)).forces
    largest = float(np.linalg.norm(before - before.mean(axis=0), axis=1).max())
    part, least = _FORCE
    return await relaxed_inside(mixed, of.sheared, force=max(part * largest, least))


def strain_error(of: Inclusion, found: Frame) -> float:
    """How far the strain in the inclusion is from that of the expensive model alone.

    Args:
        of: from `inclusion`.
        found: from `relaxed_inclusion`.

    Returns:
        Root mean square over the atoms of core and blend of the norm of the difference, relative to
        the norm of the applied strain.
    """
    strains = local_strains(of.sheared, found.positions - of.sheared.positions)[of.share > 0.0]
    applied = float(np.linalg.norm(full(SHEAR)))
    return float(np.sqrt(np.mean(np.sum(strains**2, axis=(1, 2))))) / applied


def local_strains(frame: Frame, moved: Vectors) -> Vectors:
    """Each atom's strain, by least squares over the moves of its neighbours against it.

    Args:
        frame: N atoms.
        moved: (N, 3) Å, by how much each moves from there.

    Returns:
        (N, 3, 3), symmetric.

    Raises:
        ConfigError: even neighbours far away do not tell it.

    References:
        M. L. Falk, J. S. Langer, Phys. Rev. E 57, 7192 (1998), equations 2.11 to 2.13.
    """
    atoms = Atoms(numbers=frame.topology.numbers, positions=frame.positions, cell=frame.cell)
    atoms.pbc = frame.topology.pbc
    reach = _AROUND * _nearest(atoms)
    while True:
        first, second, vector = neighbor_list("ijD", atoms, reach)
        shape, change = np.zeros((2, len(frame), 3, 3))
        np.add.at(shape, first, np.einsum("pi,pj->pij", vector, vector))
        spans = np.linalg.eigvalsh(shape)
        if (spans[:, 0] > _SPAN * spans[:, 2]).all():
            break
        if reach > _FARTHEST:
            raise ConfigError(
                f"within {reach:.1f} Å the neighbours of an atom lie in a plane, so its strain "
                "cannot be told"
            )
        reach *= _FARTHER
    np.add.at(change, first, np.einsum("pi,pj->pij", vector, moved[second] - moved[first]))
    gradient = np.linalg.solve(shape, change)
    strains: Vectors = 0.5 * (gradient + gradient.transpose(0, 2, 1))
    return strains


def _nearest(atoms: Atoms) -> float:
    """Å between the two nearest atoms."""
    for cutoff in (3.0, 6.0, _FARTHEST):
        distances = neighbor_list("d", atoms, cutoff)
        if len(distances):
            return float(distances.min())
    raise ConfigError(f"no two atoms are within {_FARTHEST:g} Å of each other")


def _share(perfect: Frame, core: float, blend: float) -> Scalars:
    """(N,) lambda around the middle of the cell."""
    middle = 0.5 * perfect.cell.sum(axis=0)
    near = near_points(perfect, middle[None], core + blend)
    share = np.zeros(len(perfect))
    depth = np.clip((near.distance - core) / blend, 0.0, 1.0)
    share[near.atoms] = named("quintic").value(depth)
    return share


def _mixed(expensive: Dispatcher, cheap: Dispatcher, of: Inclusion, loads: Vectors) -> Ask:
    """The mixed energy with its dead loads, as something to relax."""

    async def ask(frame: Frame) -> Label:
        theirs, ours = await both(
            _weighted(expensive, "expensive", frame, of.share),
            _weighted(cheap, "cheap", frame, 1.0 - of.share),
        )
        moved = frame.positions - of.sheared.positions
        work = float(np.vdot(loads, moved))
        return Label(
            theirs.energy + ours.energy + work,
            theirs.forces + ours.forces - loads,
            theirs.virial + ours.virial,
        )

    return ask


async def _weighted(dispatcher: Dispatcher, role: Role, frame: Frame, weight: Scalars) -> Result:
    question = msgspec.structs.replace(about_all(frame, weight=weight), stream=STREAM - 1)
    (answer,) = await dispatcher.run([(role, question)])
    return answer.result
