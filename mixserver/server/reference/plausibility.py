r"""Limits of plausibility for energies, pressures, forces and positions, as pure functions.

A force is compared with the close pair that must explain it, so that a collision cascade passes and
a model far outside its training data does not:

.. math::
    |F_i| \le F_\mathrm{limit} + 20 \sum_j |V_\mathrm{ZBL}'(r_{ij})|

with the screened repulsion of two nuclei of Ziegler, Biersack and Littmark. Energies are compared
with the first one of a run, so that their zero does not matter.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.units import GPa

from mixserver.config import Limits
from mixserver.core.arrays import Indices, Matrix, Numbers, Scalars, Vectors
from mixserver.core.cell import volume
from mixserver.core.frame import Frame, Topology
from mixserver.core.units import BOHR
from mixserver.geometry import distances_to_atoms, neighbour_list

_FAR: Final = 1e8
"""Å. Farther out, wrapping into the cell loses 1e-8 Å."""
_REPULSION: Final = 20.0
"""How much more than two bare nuclei a model may repel."""
_SHARE: Final = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
"""Of the universal screening function: weights and exponents."""
_COULOMB: Final = 14.399645
"""eV Å."""


def implausible_energy(energy: float, first: float, atoms: int, limits: Limits) -> str:
    """The error in an energy (eV), compared with the first one of the run, or ""."""
    change = (energy - first) / max(1, atoms)
    if abs(change) <= limits.energy_change:
        return ""
    return (
        f"the energy is {energy:.6g} eV, {change:+.4g} eV per atom from the run's first "
        f"({first:.6g} eV); the limit is {limits.energy_change:g} (limits.energy_change)"
    )


def implausible_pressure(virial: Matrix, cell: Matrix, limits: Limits) -> str:
    """The error in a virial (eV) in a cell (Å), or ""."""
    trace = float(virial[0, 0] + virial[1, 1] + virial[2, 2])
    pressure = trace / (3.0 * volume(cell)) / GPa
    if abs(pressure) <= limits.pressure:
        return ""
    return (
        f"the pressure is {pressure:.4g} GPa without the momenta; the limit is "
        f"{limits.pressure:g} (limits.pressure)"
    )


def implausible_forces(frame: Frame, forces: Vectors, limits: Limits) -> str:
    """The error in (N, 3) forces (eV/Å), one that no close pair explains, or ""."""
    if not forces.size or max(float(forces.max()), -float(forces.min())) * 3.0**0.5 <= limits.force:
        return ""
    sizes = np.linalg.norm(forces, axis=1)
    strong = np.flatnonzero(sizes > limits.force)
    if not len(strong):
        return ""
    excess = sizes[strong] - limits.force - _REPULSION * repulsion(frame, strong)
    worst = int(excess.argmax())
    if excess[worst] <= 0.0:
        return ""
    atom = int(strong[worst])
    symbol = chemical_symbols[int(frame.topology.numbers[atom])]
    return (
        f"the force on {symbol} (atom {atom}) is {sizes[atom]:.4g} eV/Å, more than "
        f"{limits.force:g} (limits.force), and no atom is close enough to push it so hard"
    )


def implausible_positions(frame: Frame) -> str:
    """The error in the positions of atoms, or ""."""
    places = frame.positions
    if not places.size or max(float(places.max()), -float(places.min())) <= _FAR:
        return ""
    atom = int(np.abs(places).max(axis=1).argmax())
    return (
        f"atom {atom} is at {np.abs(places[atom]).max():.3g} Å: positions have exploded, and "
        "there is no precision left to wrap them into the cell"
    )


def repulsion(frame: Frame, atoms: Indices) -> Scalars:
    """Sum of the bare repulsions that act on some atoms of a frame, (n,) eV/Å."""
    radii = covalent_radii[frame.topology.numbers]
    reach = max(2.5, 1.6 * float(radii.max()))
    around = distances_to_atoms(frame, atoms, reach).atoms
    part = Topology(frame.topology.numbers[around], frame.topology.pbc)
    pairs = neighbour_list(Frame(part, frame.positions[around], frame.cell), reach)
    pushes = zbl(part.numbers[pairs.first], part.numbers[pairs.second], pairs.distance)
    total: Scalars = np.bincount(pairs.first, pushes, len(around)).astype(np.float64)
    found: Scalars = total[np.searchsorted(around, atoms)]
    return found


def zbl(first: Numbers, second: Numbers, distance: Scalars) -> Scalars:
    """Screened repulsion of pairs of nuclei, (n,) eV/Å, by atomic numbers and distances in Å."""
    r = np.maximum(distance, 1e-3)
    length = 0.8854 * BOHR / (first.astype(float) ** 0.23 + second.astype(float) ** 0.23)
    x = r / length
    phi = sum(share * np.exp(-rate * x) for share, rate in _SHARE)
    slope = sum(share * rate * np.exp(-rate * x) for share, rate in _SHARE)
    scale = _COULOMB * first.astype(float) * second.astype(float) / r
    pushes: Scalars = scale * (phi / r + slope / length)
    return pushes
