"""How well two models agree about one crystal: its lattice, its stiffness, its forces, its energy.

Where they meet in one simulation, every disagreement is seen: a misfit strains both sides, other
stiffness bends strain at the interface, other forces pull at the blend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.cell import Cell
from numpy.typing import NDArray
from scipy.linalg import eigh

from mixserver.crystal.asking import Ask, both
from mixserver.crystal.elasticity import Cubic, ElasticConstants, elastic_constants
from mixserver.crystal.lattice import relaxed_crystal
from mixserver.crystal.supercell import for_atoms, repeated
from mixserver.errors import ConfigError, MixserverError
from mixserver.frame import Frame
from mixserver.units import BOLTZMANN

_ATOMS: Final = 100
_WARM: Final = 300.0
"""K, at which forces are compared."""
_SMALL: Final = 0.02
"""Å, displacements from which the energy's rise is foretold."""
_CUBIC: Final = 1e-2
"""Of the largest stiffness: eigenvalues nearer to each other are the same."""
_ALIKE: Final = 1e-3
"""Relative difference of lengths that a lattice's symmetry takes as equal."""


@dataclass(frozen=True, eq=False)
class Crystal:
    """One model's crystal at rest."""

    frame: Frame
    energy: float
    """eV per atom."""
    elastic: ElasticConstants

    @property
    def lattice(self) -> str:
        """Its Bravais lattice with its lengths (Å) and angles, as "FCC(a=5.431)"."""
        return lattice_name(self.frame)


@dataclass(frozen=True, eq=False)
class Match:
    """Two models of one crystal."""

    expensive: Crystal
    cheap: Crystal
    forces: float
    """eV/Å, root mean square over components of expensive minus cheap, at displacements from the
    expensive crystal that cost what 300 K cost."""
    pull: float
    """eV/Å, the same of the expensive forces themselves."""

    @property
    def misfit(self) -> float:
        """The largest strain, of either sign, that makes the expensive crystal the cheap one."""
        return largest_strain(self.expensive.frame, self.cheap.frame)

    @property
    def pressure(self) -> float:
        """GPa, roughly, in an expensive crystal that is held at the cheap one's volume."""
        ratio = self.cheap.frame.volume / self.expensive.frame.volume
        return -self.expensive.elastic.bulk_modulus * (ratio - 1.0)

    @property
    def constants(self) -> dict[str, tuple[float, float]]:
        """Expensive and cheap elastic constants (GPa) by name.

        C11, C12 and C44 along the cubes' edges if both crystals are cubic, however they stand;
        otherwise the bulk modulus and what is on the diagonal.
        """
        ours, theirs = self.expensive.elastic, self.cheap.elastic
        one, other = cubic_constants(ours.matrix), cubic_constants(theirs.matrix)
        if one is not None and other is not None:
            pairs = zip(one, other, strict=True)
            return dict(zip(("C11", "C12", "C44"), pairs, strict=True))
        named = {"B": (ours.bulk_modulus, theirs.bulk_modulus)}
        for at in range(6):
            named[f"C{at + 1}{at + 1}"] = (ours.matrix[at, at], theirs.matrix[at, at])
        return named

    @property
    def stiffness(self) -> float:
        """By which part the cheap crystal is stiffer, for the strain for which it differs most."""
        ratios = eigh(_mandel(self.cheap.elastic.matrix), _mandel(self.expensive.elastic.matrix))[0]
        return float(max(ratios - 1.0, key=abs))

    @property
    def energy(self) -> float:
        """Expensive less cheap, each at rest, in eV per atom."""
        return self.expensive.energy - self.cheap.energy


async def match(expensive: Ask, cheap: Ask, start: Frame) -> Match:
    """Relax a crystal with both models and compare.

    Args:
        expensive: the model that is taken for true.
        cheap: the other.
        start: a cell of the crystal, near its equilibrium.

    Raises:
        ConfigError: with one of them it does not come to rest, is not stable, or is no crystal.
    """
    true, ours = await both(
        _crystal("expensive", expensive, start), _crystal("cheap", cheap, start)
    )
    warm = await _warm(expensive, true.frame)
    pulls = [label.forces for label in await both(expensive(warm), cheap(warm))]
    return Match(
        true,
        ours,
        forces=float(np.sqrt(np.mean((pulls[0] - pulls[1]) ** 2))),
        pull=float(np.sqrt(np.mean(pulls[0] ** 2))),
    )


async def _crystal(role: str, ask: Ask, start: Frame) -> Crystal:
    try:
        frame = await relaxed_crystal(ask, start)
        elastic = await elastic_constants(ask, frame)
    except MixserverError as error:
        raise ConfigError(f"the {role} model: {error}") from error
    if not elastic.stable:
        raise ConfigError(
            f"the {role} model: its crystal is not stable, a strain lowers its energy; its lowest "
            f"elastic constant is {float(np.linalg.eigvalsh(elastic.matrix).min()):.3g} GPa"
        )
    return Crystal(frame, (await ask(frame)).energy / len(frame), elastic)


async def _warm(ask: Ask, crystal: Frame) -> Frame:
    """A supercell displaced at random, so that its energy rises by 3/2 kT an atom."""
    frame = repeated(crystal, for_atoms(crystal, _ATOMS))
    moves = np.random.default_rng(0).normal(size=(len(frame), 3))
    moves -= moves.mean(axis=0)

    def displaced(by: float) -> Frame:
        return frame.topology.frame(frame.positions + by * moves, frame.cell)

    labels = await both(ask(displaced(_SMALL)), ask(frame))
    rise = (labels[0].energy - labels[1].energy) / len(frame)
    if rise <= 0.0:
        raise ConfigError(
            f"the expensive model: displacing the crystal's atoms by {_SMALL} Å lowers the energy "
            f"by {-rise:.2g} eV an atom, so it is not stable"
        )
    return displaced(_SMALL * float(np.sqrt(1.5 * BOLTZMANN * _WARM / rise)))


def _mandel(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(6, 6) GPa as a tensor of second order, whose eigenvalues do not depend on the axes.

    References:
        M. M. Mehrabadi, S. C. Cowin, Q. J. Mech. Appl. Math. 43, 15 (1990).
    """
    scale = np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    found: NDArray[np.float64] = matrix * np.outer(scale, scale)
    return found


def cubic_constants(matrix: NDArray[np.float64]) -> Cubic | None:
    """C11, C12 and C44 along the edges of a cubic crystal that stands anyhow; None if it is none.

    Its stiffness has the eigenvalues 3B once, for a change of volume, 2C' twice and 2C44 three
    times.
    """
    stiffness = _mandel(matrix)
    volume = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]) / np.sqrt(3.0)
    bulk = float(volume @ stiffness @ volume)
    off = _CUBIC * float(np.abs(stiffness).max())
    if np.abs(stiffness @ volume - bulk * volume).max() > off:
        return None
    shears = np.linalg.eigvalsh(stiffness - bulk * np.outer(volume, volume))
    shears = np.delete(shears, np.argmin(np.abs(shears)))  # the change of volume is 0 now
    splits = ((shears[:2], shears[2:]), (shears[3:], shears[:3]))
    two, three = min(splits, key=lambda split: float(np.ptp(split[0]) + np.ptp(split[1])))
    if max(np.ptp(two), np.ptp(three)) > off:
        return None
    third, c44 = float(two.mean()) / 6.0, 0.5 * float(three.mean())
    return Cubic(bulk / 3.0 + 4.0 * third, bulk / 3.0 - 2.0 * third, c44)


def largest_strain(before: Frame, after: Frame) -> float:
    """The largest principal strain, of either sign, between two cells that are not turned."""
    deformed = np.linalg.solve(before.cell, after.cell)
    strains = np.linalg.eigvalsh(0.5 * (deformed + deformed.T)) - 1.0
    return float(max(strains, key=abs))


def lattice_name(crystal: Frame) -> str:
    """A cell's Bravais lattice with its lengths (Å) and angles, as "FCC(a=5.431)"."""
    cell = Cell(crystal.cell)
    try:
        found = (cell if cell.handedness > 0 else Cell(-cell[:])).get_bravais_lattice(eps=_ALIKE)
    except RuntimeError:  # ASE knows no name for it
        return "cell(" + ", ".join(f"{value:.6g}" for value in cell.cellpar()) + ")"
    values = ", ".join(f"{name}={value:.6g}" for name, value in found.vars().items())
    return f"{found.name}({values})"
