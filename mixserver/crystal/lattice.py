"""The crystal at rest: cell and positions relaxed together, and how its cell is described.

Refuses what is no bulk crystal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.cell import Cell

from mixserver.arrays import Matrix, Scalars, Vectors
from mixserver.crystal.asking import Ask, Label
from mixserver.crystal.minimise import Slope, minimised
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.geometry import heights, near_points

_HOLE: Final = 4.0
"""Å from an empty place to the nearest atom; in the loosest elemental crystals 3.4 (Cs)."""
_GAP: Final = 5.0
"""Å without an atom between two lattice planes; where layers are bound loosest 3.4 (graphite)."""
_GRID: Final = 0.7
"""Å between places that are looked at."""
_DENSER: Final = 1.3
"""By which volumes may change while they relax."""
_ARM: Final = 3.0
"""Å by which strains are multiplied to be moved like positions."""
_SPRING: Final = 10.0
"""eV/Å², what an atom is bound by, roughly."""
_STIFFNESS: Final = 0.6
"""eV/Å³, an elastic constant, roughly."""
_LONGEST: Final = 0.1
"""Å, the longest move; a strain of 3 %."""
_NOISE: Final = 5.0
"""Times the tolerances that noise of single precision may be."""
_STEPS: Final = 300


@dataclass(frozen=True, slots=True)
class Lattice:
    """A cell in numbers."""

    volume_per_atom: float
    """Å³."""
    lengths: tuple[float, float, float]
    """Å."""
    angles: tuple[float, float, float]
    """Degrees, between lattice vectors 2 and 3, 1 and 3, 1 and 2."""

    @property
    def a(self) -> float | None:
        """Å, if the given cell is a cube (to a relative 1e-4); None otherwise."""
        mean = sum(self.lengths) / 3.0
        cube = np.allclose(self.lengths, mean, rtol=1e-4) and np.allclose(
            self.angles, 90, rtol=1e-4
        )
        return mean if cube else None


def lattice(crystal: Frame) -> Lattice:
    """What the cell of a crystal is."""
    first, second, third, alpha, beta, gamma = (float(x) for x in Cell(crystal.cell).cellpar())
    volume = crystal.volume / len(crystal)
    return Lattice(volume, (first, second, third), (alpha, beta, gamma))


def refuse_no_bulk(crystal: Frame) -> None:
    """Refuse what is no bulk crystal.

    Raises:
        ConfigError: it does not repeat along all lattice vectors, or has an empty place too large
            for a bulk crystal.
    """
    if not all(crystal.topology.pbc):
        raise ConfigError(
            "a bulk crystal repeats along all three lattice vectors, but the structure's pbc are "
            f"{crystal.topology.pbc}. Give a bulk cell"
        )
    for axis, height in enumerate(heights(crystal.inverse)):
        along = np.sort(crystal.fractional[:, axis] % 1.0)
        gap = float(np.diff(along, append=along[0] + 1.0).max() * height)
        if gap > _GAP:
            raise ConfigError(
                f"the structure is no bulk crystal: across lattice vector {axis + 1} there are "
                f"{gap:.3g} Å without an atom. Take away surfaces and vacuum, give a bulk cell"
            )
    counts = np.maximum(1, np.ceil(heights(crystal.inverse) / _GRID)).astype(int)
    places = np.stack(np.meshgrid(*(np.arange(n) / n for n in counts), indexing="ij"), axis=-1)
    grid = places.reshape(-1, 3) @ crystal.cell
    topology = Topology(np.zeros(len(grid), np.int32))
    empty = len(grid) - len(
        near_points(topology.frame(grid, crystal.cell), crystal.wrapped, _HOLE).atoms
    )
    if empty:
        raise ConfigError(
            f"the structure is no bulk crystal: in {100.0 * empty / len(grid):.2g} % of its cell "
            f"there is no atom within {_HOLE} Å. Take away surfaces and vacuum, give a bulk cell"
        )


async def relaxed_crystal(
    ask: Ask, start: Frame, *, force: float = 1e-5, stress: float = 1e-6
) -> Frame:
    """The crystal with cell and positions at rest.

    Atoms move by sums of their forces, the cell by sums of stresses, so the crystal keeps its
    symmetry; the cell does not turn.

    Args:
        ask: the model.
        start: any cell of the crystal, near its equilibrium.
        force: eV/Å, below which the largest force counts as none.
        stress: eV/Å³, the same of the stress.

    Raises:
        ConfigError: it does not come to rest, or is no bulk crystal.
    """
    refuse_no_bulk(start)
    n, topology, volume = len(start), start.topology, start.volume

    def frame(x: Scalars) -> Frame:
        moved, strain = _taken_apart(x, n)
        deformed = np.eye(3) + strain
        if not 1.0 / _DENSER < np.linalg.det(deformed) < _DENSER:
            raise ConfigError(
                f"the structure is no bulk crystal of this model: while it relaxes, its volume "
                f"changes from {volume / n:.4g} to {volume * np.linalg.det(deformed) / n:.4g} Å³ "
                "an atom. Begin nearer to equilibrium, without vacuum"
            )
        return topology.frame((start.positions + moved) @ deformed, start.cell @ deformed)

    async def at(x: Scalars) -> Slope:
        now = frame(x)
        label = await ask(now)
        deformed = np.eye(3) + _taken_apart(x, n)[1]
        rise = -np.linalg.solve(deformed.T, label.virial)
        gradient = _together(-label.forces @ deformed.T, 0.5 * (rise + rise.T) / _ARM)
        return Slope(label.energy, gradient, excess(label, now, force, stress))

    soft = _together(
        np.full((n, 3), 1.0 / _SPRING), np.full((3, 3), _ARM**2 / (_STIFFNESS * volume))
    )
    x = await minimised(
        "the crystal",
        at,
        np.zeros(3 * n + 9),
        inverse=lambda gradient: soft * gradient,
        longest=_LONGEST,
        noise=_NOISE,
        steps=_STEPS,
    )
    return frame(x)


def excess(label: Label, frame: Frame, force: float, stress: float) -> float:
    """How many times forces or stresses are above what counts as none."""
    pull = float(np.linalg.norm(label.forces, axis=1).max())
    return max(pull / force, float(np.abs(label.virial).max()) / (frame.volume * stress))


def _together(positions: Vectors, strain: Matrix) -> Scalars:
    return np.concatenate([positions.ravel(), strain.ravel()])


def _taken_apart(x: Scalars, n: int) -> tuple[Vectors, Matrix]:
    """Displacements (n, 3) Å before the strain, and the strain."""
    return x[: 3 * n].reshape(n, 3), x[3 * n :].reshape(3, 3) / _ARM
