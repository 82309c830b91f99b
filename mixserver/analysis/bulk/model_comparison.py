"""Comparison of two models in one bulk crystal: lattice, elastic constants, forces, energy.

Where two models meet in one simulation, each difference has an effect: a misfit strains both sides,
other elastic constants distort strain fields at the interface, other forces act in the blend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from mixserver.analysis.bulk.elasticity import Cubic, ElasticConstants, elastic_constants
from mixserver.analysis.bulk.evaluate import EvaluateFn, gather_all
from mixserver.analysis.bulk.lattice import lattice_name
from mixserver.analysis.bulk.relaxation import relax_crystal
from mixserver.analysis.bulk.supercell import repeated, repeats_for_atoms
from mixserver.core.errors import ConfigError, MixserverError
from mixserver.core.frame import Frame
from mixserver.core.units import BOLTZMANN

_ATOMS: Final = 100
_TEMPERATURE: Final = 300.0
"""K, at which forces are compared."""
_PROBE: Final = 0.02
"""Å, displacements that measure how the energy rises."""
_CUBIC: Final = 1e-2
"""Of the largest stiffness: eigenvalues closer to each other count as equal."""


@dataclass(frozen=True, eq=False)
class RelaxedCrystal:
    """The relaxed crystal of one model."""

    frame: Frame
    energy: float
    """eV per atom."""
    elastic: ElasticConstants

    @property
    def lattice(self) -> str:
        """Bravais lattice with lengths (Å) and angles, e.g. "fcc lattice, a = 5.431 Å"."""
        return lattice_name(self.frame)


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Two models of one crystal."""

    expensive: RelaxedCrystal
    cheap: RelaxedCrystal
    force_difference: float
    """eV/Å, root mean square over the components of expensive minus cheap forces, at random
    displacements that raise the energy of the expensive crystal as 300 K do."""
    force_scale: float
    """eV/Å, root mean square of the expensive forces themselves."""

    @property
    def misfit(self) -> float:
        """The largest principal strain, of either sign, from the expensive to the cheap crystal."""
        return largest_strain(self.expensive.frame, self.cheap.frame)

    @property
    def pressure(self) -> float:
        """The estimated pressure (GPa) in the expensive crystal at the volume of the cheap one."""
        ratio = self.cheap.frame.volume / self.expensive.frame.volume
        return -self.expensive.elastic.bulk_modulus * (ratio - 1.0)

    @property
    def constants(self) -> dict[str, tuple[float, float]]:
        """Expensive and cheap elastic constants (GPa) by name.

        C11, C12 and C44 along the cubic axes if both crystals are cubic, in any orientation;
        otherwise the bulk modulus and the diagonal.
        """
        expensive, cheap = self.expensive.elastic, self.cheap.elastic
        one, other = cubic_constants(expensive.matrix), cubic_constants(cheap.matrix)
        if one is not None and other is not None:
            pairs = zip(one, other, strict=True)
            return dict(zip(("C11", "C12", "C44"), pairs, strict=True))
        named = {"B": (expensive.bulk_modulus, cheap.bulk_modulus)}
        for i in range(6):
            named[f"C{i + 1}{i + 1}"] = (expensive.matrix[i, i], cheap.matrix[i, i])
        return named

    @property
    def stiffness(self) -> float:
        """Fraction by which the cheap crystal is stiffer, for the strain with the largest one."""
        ratios = eigh(_mandel(self.cheap.elastic.matrix), _mandel(self.expensive.elastic.matrix))[0]
        return float(max(ratios - 1.0, key=abs))

    @property
    def energy(self) -> float:
        """Expensive minus cheap, both relaxed, in eV per atom."""
        return self.expensive.energy - self.cheap.energy


async def compare_models(expensive: EvaluateFn, cheap: EvaluateFn, start: Frame) -> ModelComparison:
    """Relax a crystal with both models, from a cell near equilibrium, and compare.

    Raises:
        ConfigError: with one of the models the relaxation does not converge, or the crystal is not
            stable or not a bulk crystal.
    """
    reference, other = await gather_all(
        [_relax("expensive", expensive, start), _relax("cheap", cheap, start)]
    )
    displaced = await _thermally_displaced(expensive, reference.frame)
    theirs, ours = await gather_all([expensive(displaced), cheap(displaced)])
    return ModelComparison(
        reference,
        other,
        force_difference=float(np.sqrt(np.mean((theirs.forces - ours.forces) ** 2))),
        force_scale=float(np.sqrt(np.mean(theirs.forces**2))),
    )


async def _relax(role: str, evaluate: EvaluateFn, start: Frame) -> RelaxedCrystal:
    try:
        frame = await relax_crystal(evaluate, start)
        elastic = await elastic_constants(evaluate, frame)
    except MixserverError as error:
        raise ConfigError(f"the {role} model: {error}") from error
    if not elastic.stable:
        raise ConfigError(
            f"the {role} model: its crystal is not stable, a strain lowers its energy; its lowest "
            f"elastic constant is {float(np.linalg.eigvalsh(elastic.matrix).min()):.3g} GPa"
        )
    return RelaxedCrystal(frame, (await evaluate(frame)).energy / len(frame), elastic)


async def _thermally_displaced(evaluate: EvaluateFn, crystal: Frame) -> Frame:
    """A supercell with random displacements that raise its energy by 3/2 kT per atom."""
    frame = repeated(crystal, repeats_for_atoms(crystal, _ATOMS))
    moves = np.random.default_rng(0).normal(size=(len(frame), 3))
    moves -= moves.mean(axis=0)

    def displaced(size: float) -> Frame:
        return frame.topology.frame(frame.positions + size * moves, frame.cell)

    moved, rest = await gather_all([evaluate(displaced(_PROBE)), evaluate(frame)])
    rise = (moved.energy - rest.energy) / len(frame)
    if rise <= 0.0:
        raise ConfigError(
            f"the expensive model: displacing the crystal's atoms by {_PROBE} Å lowers the energy "
            f"by {-rise:.2g} eV per atom, so the crystal is not stable"
        )
    return displaced(_PROBE * float(np.sqrt(1.5 * BOLTZMANN * _TEMPERATURE / rise)))


def _mandel(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The stiffness in Mandel notation, whose eigenvalues do not depend on the axes.

    References:
        M. M. Mehrabadi, S. C. Cowin, Q. J. Mech. Appl. Math. 43, 15 (1990).
    """
    scale = np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    found: NDArray[np.float64] = matrix * np.outer(scale, scale)
    return found


def cubic_constants(matrix: NDArray[np.float64]) -> Cubic | None:
    """C11, C12 and C44 along the axes of a cubic crystal in any orientation; None if not cubic.

    The stiffness of a cubic crystal has the eigenvalues 3B once, for a change of volume, 2C' twice
    and 2C44 three times.
    """
    stiffness = _mandel(matrix)
    volume = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]) / np.sqrt(3.0)
    bulk = float(volume @ stiffness @ volume)
    off = _CUBIC * float(np.abs(stiffness).max())
    if np.abs(stiffness @ volume - bulk * volume).max() > off:
        return None
    shears = np.linalg.eigvalsh(stiffness - bulk * np.outer(volume, volume))
    shears = np.delete(shears, np.argmin(np.abs(shears)))  # the change of volume, now 0
    splits = ((shears[:2], shears[2:]), (shears[3:], shears[:3]))
    two, three = min(splits, key=lambda split: float(np.ptp(split[0]) + np.ptp(split[1])))
    if max(np.ptp(two), np.ptp(three)) > off:
        return None
    third, c44 = float(two.mean()) / 6.0, 0.5 * float(three.mean())
    return Cubic(bulk / 3.0 + 4.0 * third, bulk / 3.0 - 2.0 * third, c44)


def largest_strain(before: Frame, after: Frame) -> float:
    """The largest principal strain, of either sign, between two cells of one orientation."""
    deformed = np.linalg.solve(before.cell, after.cell)  # exactly 1 for equal cells
    strains = np.linalg.eigvalsh(0.5 * (deformed + deformed.T)) - 1.0
    return float(max(strains, key=abs))
