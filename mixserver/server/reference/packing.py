"""How closely atoms are packed: distances in covalent radii, density, and their limits.

Atoms are judged by their covalent radii, because a structure read in the wrong unit may be a
perfect crystal with no force on any atom.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.data import chemical_symbols, covalent_radii, reference_states
from scipy.spatial import cKDTree

from mixserver.config import Limits
from mixserver.core.arrays import Scalars, Vectors
from mixserver.core.errors import Implausible
from mixserver.core.frame import Frame
from mixserver.core.units import BOHR
from mixserver.geometry import with_images

MIN_NEIGHBOUR_FRACTION: Final = 0.56
"""Of the sum of two covalent radii. The closest neighbours at rest are those of Cr2, at 0.60, and
of uranium, at 0.70; a structure in bohr that is read in Å has most elements at 0.45 to 0.6."""
COLLISION_FRACTION: Final = 0.4
"""Of the same sum: closer pairs occur in collision cascades only."""
_NEIGHBOURS: Final = 6
"""Number of nearest neighbours checked: the nearest may be a small atom at its right place."""
_NOBLE: Final = (2, 10, 18, 36, 54, 86)
IN_BOHR: Final = (
    f"A structure in bohr that is read in Å looks like this (lengths {BOHR:.4f} of the right "
    "ones): look at the units of the structure and of its cell"
)
"""The likely cause if a structure is too dense."""
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
class Packing:
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
        return self.median < MIN_NEIGHBOUR_FRACTION


def measure_packing(frame: Frame) -> Packing:
    """Measure how close the atoms of a frame are to each other, with one KD-tree of all."""
    radii = covalent_radii[frame.topology.numbers]
    reach = 2.0 * float(radii.max(initial=0.1))
    places, owner = with_images(frame, reach)
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
    return Packing(
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
    """Volume per atom of each element at ambient pressure, (119,) Å³; never too large.

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


def check_packing(frame: Frame, seen: Packing, limits: Limits, whose: str) -> None:
    """Refuse atoms that are closer to each other than any structure can have them.

    `seen` is what `measure_packing` found; `whose` says what the frame is: "the structure".

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
            f"within {seen.median:.2f} of the sum of two covalent radii "
            f"({MIN_NEIGHBOUR_FRACTION} is the least), {volume:.2f} Å³ an atom; the closest: "
            f"{pair}. {IN_BOHR}; limits.density = inf lets them pass"
        )
    if seen.density > limits.density:
        closest = f". The closest atoms, {pair}" if pair is not None else ""
        raise Implausible(
            f"{whose} is {seen.density:.1f} times denser than its elements at ambient pressure, "
            f"{volume:.2f} Å³ an atom; the limit is {limits.density:g} (limits.density)"
            f"{closest}. {IN_BOHR}"
        )
