r"""What no structure and no pair of models can mean: bounds, as pure functions of numbers.

Atoms are judged by their covalent radii, because a structure read in the wrong unit may be a
perfect crystal with no force on any atom. A force is judged by the close pair that must explain it,
so that a collision cascade passes and a model far outside its training data does not:

.. math::
    |F_i| \le F_\mathrm{limit} + 20 \sum_j |V_\mathrm{ZBL}'(r_{ij})|

with the screened repulsion of two nuclei of Ziegler, Biersack and Littmark. Energies are judged by
how far they are from the first one of a run, so that their zero is of no account.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.data import chemical_symbols, covalent_radii, reference_states
from ase.units import GPa
from scipy.spatial import cKDTree

from mixserver.arrays import Indices, Matrix, Numbers, Scalars, Vectors
from mixserver.config import Limits
from mixserver.errors import Implausible
from mixserver.frame import Frame, Topology
from mixserver.geometry import near_atoms
from mixserver.geometry.images import neighbours, padded

CROWDED: Final = 0.56
"""Of the sum of two covalent radii. The closest neighbours at rest are those of Cr2, at 0.60, and
of uranium, at 0.70; a structure in bohr that is read in Å has most elements at 0.45 to 0.6."""
CLOSE: Final = 0.4
"""Of the same sum: closer pairs occur in collision cascades only."""
_NEIGHBOURS: Final = 6
"""How many nearest neighbours are looked at: the nearest may be a small atom at its right place."""
_FAR: Final = 1e8
"""Å. Farther out, wrapping into the cell loses 1e-8 Å."""
_REPULSION: Final = 20.0
"""How much more than two bare nuclei a model may repel."""
_SHARE: Final = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
"""Of the universal screening function: weights and exponents."""
_NOBLE: Final = (2, 10, 18, 36, 54, 86)
_COULOMB: Final = 14.399645
"""eV Å."""
_BOHR: Final = 0.529177
IN_BOHR: Final = (
    f"A structure in bohr that is read in Å looks like this (lengths {_BOHR:.4f} of the right "
    "ones): look at the units of the structure and of its cell"
)
"""What to look for where a structure is too dense."""
_ATOM_VOLUME: Final = 4.0 * math.pi / 3.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two atoms that are close to each other."""

    first: int
    second: int
    symbols: tuple[str, str]
    distance: float
    """Å."""
    fraction: float
    """Of the sum of their covalent radii."""
    image: tuple[int, int, int]
    """Lattice vectors from the second atom, wrapped into the cell as the first, to its image."""

    def __str__(self) -> str:
        """In words."""
        first, second = self.symbols
        where = f" (its image at {self.image} cells)" if any(self.image) else ""
        return (
            f"{first} (atom {self.first}) and {second} (atom {self.second}){where} are "
            f"{self.distance:.3f} Å apart, {self.fraction:.2f} of the sum of their covalent radii"
        )


@dataclass(frozen=True, slots=True)
class Crowding:
    """How close the atoms of a frame are to each other."""

    closest: Pair | None
    """The pair with the smallest fraction of its covalent radii; None if all are far apart."""
    median: float
    """Over all atoms, of the smallest such fraction of each; inf if most have no neighbour."""
    density: float
    """Atoms per volume, in units of what the elements have at ambient pressure; 0 for a system that
    is not periodic in three directions."""

    @property
    def collapsed(self) -> bool:
        """Whether most atoms are closer than any at rest."""
        return self.median < CROWDED


def crowding(frame: Frame) -> Crowding:
    """Measure how close the atoms of a frame are to each other.

    Args:
        frame: any; looks at all its atoms once with a KD-tree.
    """
    radii = covalent_radii[frame.topology.numbers]
    reach = 2.0 * float(radii.max(initial=0.1))
    places, owner = padded(frame, reach)
    distance, found = cKDTree(places).query(
        frame.wrapped, k=_NEIGHBOURS + 1, distance_upper_bound=reach
    )
    there = found < len(places)
    mates = owner[np.where(there, found, 0)]
    itself = (mates == np.arange(len(frame))[:, None]) & (distance < 1e-9)
    fraction = np.where(there & ~itself, distance / (radii[:, None] + radii[mates]), np.inf)
    smallest = fraction.min(axis=1, initial=np.inf)
    closest = None
    if len(frame) and np.isfinite(smallest.min()):
        row = int(smallest.argmin())
        column = int(fraction[row].argmin())
        closest = _pair(
            frame,
            row,
            int(mates[row, column]),
            places[found[row, column]],
            float(distance[row, column]),
            float(smallest[row]),
        )
    volume = float(ambient_volumes()[frame.topology.numbers].sum())
    periodic = all(frame.topology.pbc)
    return Crowding(
        closest,
        float(np.median(smallest)) if len(frame) else math.inf,
        volume / frame.volume if periodic else 0.0,
    )


def _pair(
    frame: Frame, first: int, second: int, place: Vectors, distance: float, fraction: float
) -> Pair:
    turns = np.rint((place - frame.wrapped[second]) @ frame.inverse).astype(int)
    if second < first:
        first, second, turns = second, first, -turns
    symbols = (
        chemical_symbols[int(frame.topology.numbers[first])],
        chemical_symbols[int(frame.topology.numbers[second])],
    )
    return Pair(
        first, second, symbols, distance, fraction, (int(turns[0]), int(turns[1]), int(turns[2]))
    )


@functools.cache
def ambient_volumes() -> Scalars:
    """(119,) Å³ per atom of each element at ambient pressure, by atomic number; never too large.

    Gases and elements of complicated crystals count with their covalent sphere.
    """
    volumes = _ATOM_VOLUME * covalent_radii**3
    atoms = {"fcc": 0.25, "bcc": 0.5, "diamond": 0.125, "sc": 1.0}
    for number, state in enumerate(reference_states[: len(volumes)]):
        if state is None or number in _NOBLE:  # soft: their crystals at rest are no measure
            continue
        share = atoms.get(state["symmetry"], 0.0)
        if state["symmetry"] == "hcp" and "c/a" in state:
            share = state["c/a"] * math.sqrt(3.0) / 4.0
        if share:
            volumes[number] = share * state["a"] ** 3
    found: Scalars = volumes
    return found


def refuse_crowding(frame: Frame, seen: Crowding, limits: Limits, whose: str) -> None:
    """Refuse atoms that are closer to each other than any structure can have them.

    Args:
        frame: what was looked at.
        seen: what `crowding` found in it.
        limits: of the case.
        whose: what the frame is, for the message: "the structure", "evaluation 3".

    Raises:
        Implausible: two atoms are too close, most atoms are, or the density is too high.
    """
    pair = seen.closest
    if pair is not None and pair.fraction < limits.shortest_pair:
        raise Implausible(
            f"atoms overlap in {whose}: {pair}; no model is made for less than "
            f"{limits.shortest_pair:g} (limits.shortest_pair). Look for atoms that are twice in "
            "the structure, a time step that is too long, or a wrong cell"
        )
    if not math.isfinite(limits.density):
        return
    volume = frame.volume / max(1, len(frame))
    if seen.collapsed and pair is not None:
        raise Implausible(
            f"the atoms of {whose} are closer than in any material: half of them have a neighbour "
            f"within {seen.median:.2f} of the sum of two covalent radii ({CROWDED} is the least), "
            f"{volume:.2f} Å³ an atom; the closest, {pair}. {IN_BOHR}; limits.density = inf "
            "lets them pass"
        )
    if seen.density > limits.density:
        closest = f". The closest atoms, {pair}" if pair is not None else ""
        raise Implausible(
            f"{whose} is {seen.density:.1f} times denser than its elements at ambient pressure, "
            f"{volume:.2f} Å³ an atom; the limit is {limits.density:g} (limits.density)"
            f"{closest}. {IN_BOHR}"
        )


def wrong_energy(energy: float, first: float, atoms: int, limits: Limits) -> str:
    """What is wrong with an energy (eV), or "".

    Args:
        energy: of the answer.
        first: the first one of the run.
        atoms: how many share it.
        limits: of the case.
    """
    change = (energy - first) / max(1, atoms)
    if abs(change) <= limits.energy_change:
        return ""
    return (
        f"the energy is {energy:.6g} eV, {change:+.4g} eV per atom from the run's first "
        f"({first:.6g} eV); the limit is {limits.energy_change:g} (limits.energy_change)"
    )


def wrong_pressure(virial: Matrix, cell: Matrix, limits: Limits) -> str:
    """What is wrong with a virial (eV) in a cell (Å), or ""."""
    trace = float(virial[0, 0] + virial[1, 1] + virial[2, 2])
    pressure = trace / (3.0 * _volume(cell.tobytes())) / GPa
    if abs(pressure) <= limits.pressure:
        return ""
    return (
        f"the pressure is {pressure:.4g} GPa without the momenta; the limit is "
        f"{limits.pressure:g} (limits.pressure)"
    )


@functools.lru_cache(maxsize=64)
def _volume(raw: bytes) -> float:
    """Å³ of a cell given as bytes: few simulations change theirs at every step."""
    return float(abs(np.linalg.det(np.frombuffer(raw, np.float64).reshape(3, 3))))


def wrong_forces(frame: Frame, forces: Vectors, limits: Limits) -> str:
    """What is wrong with (N, 3) forces (eV/Å), or "": one that no close pair explains."""
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


def wrong_places(frame: Frame) -> str:
    """What is wrong with where atoms are, or ""."""
    places = frame.positions
    if not places.size or max(float(places.max()), -float(places.min())) <= _FAR:
        return ""
    atom = int(np.abs(places).max(axis=1).argmax())
    return (
        f"atom {atom} is at {np.abs(places[atom]).max():.3g} Å: positions have exploded, and "
        "there is no precision left to wrap them into the cell"
    )


def repulsion(frame: Frame, atoms: Indices) -> Scalars:
    """(n,) eV/Å, the sum of the bare repulsions that act on some atoms of a frame."""
    radii = covalent_radii[frame.topology.numbers]
    reach = max(2.5, 1.6 * float(radii.max()))
    around = near_atoms(frame, atoms, reach).atoms
    part = Topology(frame.topology.numbers[around], frame.topology.pbc)
    pairs = neighbours(Frame(part, frame.positions[around], frame.cell), reach)
    pushes = zbl(part.numbers[pairs.first], part.numbers[pairs.second], pairs.distance)
    total: Scalars = np.bincount(pairs.first, pushes, len(around)).astype(np.float64)
    found: Scalars = total[np.searchsorted(around, atoms)]
    return found


def zbl(first: Numbers, second: Numbers, distance: Scalars) -> Scalars:
    """(n,) eV/Å by which two nuclei repel each other, screened by their electrons.

    Args:
        first: (n,) atomic numbers.
        second: (n,) the same of the others.
        distance: (n,) Å.
    """
    r = np.maximum(distance, 1e-3)
    length = 0.8854 * _BOHR / (first.astype(float) ** 0.23 + second.astype(float) ** 0.23)
    x = r / length
    phi = sum(share * np.exp(-rate * x) for share, rate in _SHARE)
    slope = sum(share * rate * np.exp(-rate * x) for share, rate in _SHARE)
    scale = _COULOMB * first.astype(float) * second.astype(float) / r
    pushes: Scalars = scale * (phi / r + slope / length)
    return pushes
