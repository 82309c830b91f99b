r"""Strain error of a sheared cheap crystal with an expensive inclusion.

Energies are mixed around a point of the perfect crystal as in a run, with frozen lambda and dead
loads, so that atoms move only when the cell is sheared. If both models have the same elastic
constants, the strain is as uniform as with one of them. Otherwise it is that of Eshelby's inclusion
(Proc. R. Soc. A 241, 376, 1957), and the strain in the region differs from the applied one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixserver.analysis.bulk.evaluate import (
    FIRST_STREAM,
    EvaluateFn,
    EvaluationResult,
    evaluate_whole,
    gather_pair,
    model_evaluator,
)
from mixserver.analysis.bulk.relaxation import relax_atoms
from mixserver.analysis.bulk.supercell import repeated, repeats_for_length
from mixserver.core.arrays import Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.strain import strain_from_voigt, strained
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.geometry import distances_to_points, neighbour_list, shortest_distance
from mixserver.region.profiles import named

CORE: Final = 5.0
"""Å."""
BLEND: Final = 4.0
"""Å."""
SHEAR: Final = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.01])
"""Engineering shear in the plane of x and y."""
LENGTH: Final = 20.0
"""Å, of the supercell: with core and blend a sixth of it is expensive."""
_FORCE: Final = (0.01, 1e-6)
"""Relaxation ends when forces are below this fraction of the initial ones, or below this many
eV/Å."""
_AROUND: Final = 2.0
"""Reach in nearest distances of the neighbours that define an atom's strain. It grows where they
lie in a plane, as in layers and beside short bonds."""
_SPAN: Final = 0.05
"""Least extent of neighbours in each direction, relative to the largest."""
_FARTHER: Final = 1.2
_FARTHEST: Final = 12.0
"""Å."""
_STREAM: Final = FIRST_STREAM - 1


@dataclass(frozen=True, eq=False)
class Inclusion:
    """An inclusion, with the sheared crystal of the expensive model for comparison."""

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
    counted: Callable[[EvaluateFn], EvaluateFn] = lambda evaluate: evaluate,
) -> Inclusion:
    """The expensive model's side of the comparison, from a relaxed unit cell.

    The model weights sites; `counted` wraps it, see `EvaluationCounter`. Lengths in Å.

    Raises:
        ConfigError: the sheared crystal does not come to rest.
    """
    repeats = repeats_for_length(crystal, length)
    perfect = repeated(crystal, repeats)
    evaluate = counted(model_evaluator(dispatcher, "expensive"))
    cell = await relax_atoms(evaluate, strained(crystal, strain_from_voigt(SHEAR)))
    share = _share(perfect, core, blend)
    mine = await evaluate_whole(dispatcher, "expensive", perfect, stream=_STREAM, weight=share)
    return Inclusion(perfect, repeated(cell, repeats), share, mine.forces)


async def relaxed_inclusion(
    expensive: Dispatcher,
    cheap: Dispatcher,
    of: Inclusion,
    *,
    counted: Callable[[EvaluateFn], EvaluateFn] = lambda evaluate: evaluate,
) -> Frame:
    """The sheared crystal at rest with both models mixed.

    Raises:
        ConfigError: it does not come to rest.
    """
    rest = await evaluate_whole(cheap, "cheap", of.perfect, stream=_STREAM, weight=1.0 - of.share)
    mixed = counted(_mixed(expensive, cheap, of, of.loads + rest.forces))
    before = (await mixed(of.sheared)).forces
    largest = float(np.linalg.norm(before - before.mean(axis=0), axis=1).max())
    part, least = _FORCE
    return await relax_atoms(mixed, of.sheared, force=max(part * largest, least))


def strain_error(of: Inclusion, found: Frame) -> float:
    """The deviation of the strain in the inclusion from that of the expensive model alone.

    Root mean square over the atoms of core and blend of the norm of the difference, relative to the
    norm of the applied strain.
    """
    strains = local_strains(of.sheared, found.positions - of.sheared.positions)[of.share > 0.0]
    applied = float(np.linalg.norm(strain_from_voigt(SHEAR)))
    return float(np.sqrt(np.mean(np.sum(strains**2, axis=(1, 2))))) / applied


def local_strains(frame: Frame, moved: Vectors) -> Vectors:
    """The symmetric strain (3, 3) at each atom, by least squares over its neighbours' moves (Å).

    Raises:
        ConfigError: even distant neighbours do not determine it.

    References:
        M. L. Falk, J. S. Langer, Phys. Rev. E 57, 7192 (1998), equations 2.11 to 2.13.
    """
    reach = _AROUND * shortest_distance(frame)
    while True:
        first, second, _, vector = neighbour_list(frame, reach)
        shape, change = np.zeros((2, len(frame), 3, 3))
        np.add.at(shape, first, np.einsum("pi,pj->pij", vector, vector))
        spans = np.linalg.eigvalsh(shape)
        if (spans[:, 0] > _SPAN * spans[:, 2]).all():
            break
        if reach > _FARTHEST:
            raise ConfigError(
                f"within {reach:.1f} Å the neighbours of an atom lie in a plane, so its strain "
                "is undetermined"
            )
        reach *= _FARTHER
    np.add.at(change, first, np.einsum("pi,pj->pij", vector, moved[second] - moved[first]))
    gradient = np.linalg.solve(shape, change)
    return 0.5 * (gradient + gradient.transpose(0, 2, 1))


def _share(perfect: Frame, core: float, blend: float) -> Scalars:
    """Lambda (N,) around the middle of the cell."""
    middle = 0.5 * perfect.cell.sum(axis=0)
    near = distances_to_points(perfect, middle[None], core + blend)
    share = np.zeros(len(perfect))
    depth = np.clip((near.distance - core) / blend, 0.0, 1.0)
    share[near.atoms] = named("quintic").value(depth)
    return share


def _mixed(expensive: Dispatcher, cheap: Dispatcher, of: Inclusion, loads: Vectors) -> EvaluateFn:
    """The mixed energy with its dead loads, for relaxation."""

    async def evaluate(frame: Frame) -> EvaluationResult:
        theirs, ours = await gather_pair(
            evaluate_whole(expensive, "expensive", frame, stream=_STREAM, weight=of.share),
            evaluate_whole(cheap, "cheap", frame, stream=_STREAM, weight=1.0 - of.share),
        )
        work = float(np.vdot(loads, frame.positions - of.sheared.positions))
        return EvaluationResult(
            theirs.energy + ours.energy + work,
            theirs.forces + ours.forces - loads,
            theirs.virial + ours.virial,
        )

    return evaluate
