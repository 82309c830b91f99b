"""Screw dislocations 1/2<111> in a bcc crystal: a periodic cell with two, and where they are.

x, the dislocation line, is [111], y is [11-2] and z is [-110]. Seen along x, atoms stand in columns
that form triangles; the centre of a dislocation is in one of them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.io import write
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_AXES = np.array([[0.5, 0.5, 0.5], [1.0, 1.0, -2.0], [-1.0, 1.0, 0.0]])
"""The Burgers vector, y and z, in lattice constants."""
_IMAGES = 30
"""Images of the two dislocations to each side whose displacements are summed."""


def crystal(symbol: str, lattice: float, repeats: tuple[int, int, int]) -> Atoms:
    """A perfect crystal in these axes, six atoms in each repeated cell.

    Args:
        symbol: of the element.
        lattice: lattice constant, Å.
        repeats: of the cell along x, y and z.
    """
    one = bulk(symbol, "bcc", a=lattice)
    whole = np.rint(np.linalg.solve(np.array(one.cell).T, (lattice * _AXES).T).T).astype(int)
    atoms = make_supercell(one, whole)
    lengths = lattice * np.linalg.norm(_AXES, axis=1)
    atoms.set_cell(np.diag(lengths), scale_atoms=True)
    atoms.wrap(eps=1e-6)
    return atoms.repeat(repeats)


def burgers(lattice: float) -> float:
    """The length of the Burgers vector, Å."""
    return float(lattice * np.sqrt(3.0) / 2.0)


@dataclass(frozen=True, slots=True)
class Dipole:
    """A cell with two screw dislocations of opposite Burgers vectors."""

    atoms: Atoms
    perfect: Atoms
    """The same atoms before; their cell has right angles."""
    centres: Floats
    """(2, 2) y and z of the dislocations, Å; that with +b first."""


def dipole(
    symbol: str, lattice: float, repeats: tuple[int, int, int], *, hard: bool = False
) -> Dipole:
    """Two dislocations, half a cell apart in y and in z, displaced by isotropic elasticity.

    The displacements of all periodic images are in it, and the cell is tilted as much as the
    dislocations have sheared the crystal, so that its mean stress is small.

    Args:
        symbol: of the element.
        lattice: lattice constant, Å.
        repeats: of the cell of six atoms along the line, y and z; the last two even, or the two
            dislocations are not in equivalent places.
        hard: begin with the hard cores instead of the easy ones.

    Raises:
        ValueError: an odd number of repeats, or too few for two dislocations.
    """
    if repeats[1] % 2 or repeats[2] % 2 or min(repeats) < 1:
        raise ValueError(
            f"repeats are {repeats}, but must be positive, and even along y and z (half a cell is "
            "between the dislocations)"
        )
    perfect = crystal(symbol, lattice, repeats)
    lengths = perfect.cell.lengths()[1:]
    side = lattice * np.sqrt(6.0) / 3.0
    height = lattice * np.sqrt(2.0) / 2.0
    # Centres of two neighbouring triangles, of which one points up and the other down: what is an
    # easy core for +b in the one is an easy core for -b in the other.
    corner = perfect.positions[np.argmin(np.linalg.norm(perfect.positions[:, 1:], axis=1)), 1:]
    up = corner + np.array([side / 2.0, height / 3.0])
    down = corner + np.array([side, 2.0 * height / 3.0])
    first, second = (down, up) if hard else (up, down)
    quarter = lengths / 4.0
    snap = np.array([side * 3.0, height * 2.0])
    start = np.rint(quarter / snap) * snap
    centres = np.array([first + start, second + start + lengths / 2.0])
    b = burgers(lattice)
    displaced, gradient = _displacements(perfect.positions[:, 1:], centres, lengths, b)
    atoms = perfect.copy()
    atoms.positions[:, 0] += displaced
    cell = np.array(atoms.cell)
    cell[1:, 0] += gradient * lengths
    atoms.set_cell(cell)
    return Dipole(atoms, perfect, centres)


def _displacements(
    places: Floats, centres: Floats, lengths: Floats, b: float
) -> tuple[Floats, Floats]:
    """Displacements along x, (N,), and the gradient by which the cell is tilted, (2,)."""
    first, second = centres[:, 0] + 1j * centres[:, 1]
    steps = np.arange(-_IMAGES, _IMAGES + 1)
    images = (steps[:, None] * lengths[0] + 1j * steps[None, :] * lengths[1]).ravel()

    def summed(at: Floats) -> Floats:
        found = np.zeros(len(at))
        place = at[:, 0] + 1j * at[:, 1]
        for image in images:
            # The angle of the quotient jumps only between the two dislocations.
            found += np.angle((place - first - image) / (place - second - image))
        return b / (2.0 * np.pi) * found

    # The sum over images converges to a periodic function and a linear one, which is taken away.
    there = centres[0] + np.array([0.31 * lengths[0], -0.13 * lengths[1]])
    corners = np.vstack([there, there + np.diag(lengths)])
    values = summed(corners)
    steps_up = values[1:] - values[0]
    steps_up -= b * np.rint(steps_up / b)
    linear = steps_up / lengths
    # Between the dislocations is a cut, across which u jumps: the crystal is sheared by it.
    along = centres[1] - centres[0]
    normal = np.array([-along[1], along[0]]) / np.linalg.norm(along)
    middle = (centres[0] + centres[1]) / 2.0
    above, below = summed(np.array([middle + 1e-6 * normal, middle - 1e-6 * normal]))
    jump = (above - below) * normal * np.linalg.norm(along) / float(np.prod(lengths))
    return summed(places) + places @ (jump - linear), jump


def columns(perfect: Atoms) -> tuple[NDArray[np.int64], Floats]:
    """The column of every atom, (N,), and the columns' y and z, (columns, 2)."""
    places = np.round(perfect.positions[:, 1:], 3)
    found, number = np.unique(places, axis=0, return_inverse=True)
    return number.ravel().astype(np.int64), found.astype(np.float64)


def triangles(places: Floats, lengths: Floats, side: float) -> tuple[NDArray[np.int64], Floats]:
    """All triangles of neighbouring columns.

    Args:
        places: (columns, 2) y and z, Å.
        lengths: (2,) of the periodic cell.
        side: distance of two columns, Å.

    Returns:
        (triangles, 3) columns, anticlockwise, and (triangles, 2) centres.
    """
    height = side * np.sqrt(3.0) / 2.0
    shape = np.array([[(side, 0.0), (side / 2, height)], [(side / 2, height), (-side / 2, height)]])
    found = []
    centres = []
    for one in range(len(places)):
        for others in shape:
            corners = places[one] + others
            apart = places[None] - corners[:, None]
            apart -= lengths * np.rint(apart / lengths)
            near = np.linalg.norm(apart, axis=2).argmin(axis=1)
            found.append((one, int(near[0]), int(near[1])))
            centres.append((places[one] + corners[0] + corners[1]) / 3.0)
    return np.array(found), np.array(centres)


class Finder:
    """Finds the dislocations of a dipole: triangles around which displacements sum up to b."""

    def __init__(self, perfect: Atoms, lattice: float) -> None:
        self._perfect = perfect
        self.b = burgers(lattice)
        self.lengths = perfect.cell.lengths()[1:]
        self.column, self.places = columns(perfect)
        side = lattice * np.sqrt(6.0) / 3.0
        self.triangles, self.centres = triangles(self.places, self.lengths, side)
        # atoms of a column, from the lowest: one each per layer
        order = np.lexsort((perfect.positions[:, 0], self.column))
        self.layers = order.reshape(len(self.places), -1)
        heights = perfect.positions[self.layers[:, 0], 0]
        self.heights = np.rint(3.0 * heights / self.b).astype(np.int64) % 3

    def displacements(self, positions: Floats) -> Floats:
        """(columns, layers) of atoms along x against the perfect crystal, Å."""
        moved: Floats = positions[:, 0] - self._perfect.positions[:, 0]
        return moved[self.layers]

    def differences(self, moved: Floats, tilt: Floats) -> tuple[NDArray[np.int64], Floats]:
        """Displacements of neighbouring columns against each other, between -b/2 and b/2.

        Args:
            moved: (columns,) displacements along x, Å.
            tilt: (2,) x of the last two vectors of the cell, Å.

        Returns:
            (pairs, 2) columns, each pair once, and (pairs,) differences.
        """
        sides = np.vstack([self.triangles[:, [k, (k + 1) % 3]] for k in range(3)])
        _, once = np.unique(np.sort(sides, axis=1), axis=0, return_index=True)
        pairs = sides[once]
        return pairs, self._steps(moved[:, None], pairs, tilt)[:, 0]

    def _steps(self, moved: Floats, pairs: NDArray[np.int64], tilt: Floats) -> Floats:
        """(pairs, layers) differences between -b/2 and b/2, from (columns, layers)."""
        one, other = pairs.T
        image = np.rint((self.places[other] - self.places[one]) / self.lengths)
        # A neighbour across the boundary is displaced by the tilt of the cell as well.
        step = moved[other] - moved[one] - (image @ tilt)[:, None]
        found: Floats = step - self.b * np.rint(step / self.b)
        return found

    def charges(self, positions: Floats, tilt: Floats) -> NDArray[np.int64]:
        """(triangles, layers) Burgers vectors inside, in units of b: -1, 0 or 1.

        Args:
            positions: (N, 3) of the atoms, in the order of the perfect crystal.
            tilt: (2,) x of the last two vectors of the cell, Å.
        """
        moved = self.displacements(positions)
        sides = [self.triangles[:, [k, (k + 1) % 3]] for k in range(3)]
        total = sum(self._steps(moved, pairs, tilt) for pairs in sides)
        return np.rint(np.asarray(total) / self.b).astype(np.int64)

    def cores(self, positions: Floats, tilt: Floats) -> Floats:
        """Where the two dislocations are, layer by layer of the line.

        Args:
            positions: (N, 3) of the atoms, in the order of the perfect crystal.
            tilt: (2,) x of the last two vectors of the cell, Å.

        Returns:
            (2, layers, 2) y and z of that with +b and of that with -b; nan in layers that have
            none, or more than one.
        """
        charges = self.charges(positions, tilt)
        found = np.full((2, charges.shape[1], 2), np.nan)
        for which, sign in enumerate((1, -1)):
            for layer in range(charges.shape[1]):
                there = np.flatnonzero(charges[:, layer] == sign)
                if len(there) == 1:
                    found[which, layer] = self.centres[there[0]]
        return found


def main() -> None:
    """Write the structure of the case."""
    parser = argparse.ArgumentParser(description="a dipole of screw dislocations")
    parser.add_argument("lattice", type=float, help="lattice constant, Å")
    parser.add_argument("--symbol", default="W")
    parser.add_argument("--repeats", type=int, nargs=3, default=(7, 6, 10))
    given = parser.parse_args()
    atoms = dipole(given.symbol, given.lattice, tuple(given.repeats)).atoms
    atoms.info["lattice"] = given.lattice
    write("init.xyz", atoms, format="extxyz")


if __name__ == "__main__":
    main()
