"""A structure with what a model says of it, divided among groups of atoms.

The atoms of a structure are divided into groups. A label holds the weighted energy of each group,
sum of e_i over its atoms, with its gradient and virial. Their sum is the ordinary label; any other
weighting that is constant on groups is a combination of them. Knows files, but nobody to ask.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Matrix, Numbers, Vectors
from mixserver.errors import ConfigError
from mixserver.whole import whole

_ARRAYS = ("numbers", "positions", "cell", "group", "energy", "forces", "virial")


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in a periodic cell, divided into groups."""

    name: str
    """Unique in a distillation; names its files."""
    kind: str
    """What it is for: "hot", "strained", "vacancy", "hard", "perfect" ..."""
    numbers: Numbers
    """(N,) atomic numbers."""
    positions: Vectors
    """(N, 3) Å."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors; all three repeat."""
    group: NDArray[np.int32]
    """(N,) which of the groups 0 .. K-1 an atom belongs to; all 0 if it is not divided."""
    temperature: float | None = None
    """K it was sampled at, if it was."""

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def groups(self) -> int:
        """K, how many groups there are."""
        return int(self.group.max()) + 1


@dataclass(frozen=True, eq=False)
class Labelled:
    """A structure and what a model says of each of its groups."""

    structure: Structure
    energy: NDArray[np.float64]
    """(K,) eV, the sum of the group's site energies."""
    forces: NDArray[np.float64]
    """(K, N, 3) eV/Å, minus the gradient of `energy` on every atom."""
    virial: NDArray[np.float64]
    """(K, 3, 3) eV, -dE/dstrain."""

    def save(self, file: Path) -> None:
        """Write it to an .npz file, whole or not at all."""
        s = self.structure
        with whole(file) as stream:
            np.savez(
                stream,
                name=np.array(s.name),
                kind=np.array(s.kind),
                temperature=np.array(np.nan if s.temperature is None else s.temperature),
                numbers=s.numbers,
                positions=s.positions,
                cell=s.cell,
                group=s.group,
                energy=self.energy,
                forces=self.forces,
                virial=self.virial,
            )


def load_labelled(file: Path) -> Labelled:
    """Read what `Labelled.save` wrote.

    Raises:
        ConfigError: the file cannot be read, or its arrays do not fit each other.
    """
    try:
        with np.load(file, allow_pickle=False) as data:
            name, kind = str(data["name"]), str(data["kind"])
            kelvin = float(data["temperature"])
            numbers, positions, cell, group, energy, forces, virial = (data[key] for key in _ARRAYS)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{file} is no labelled structure ({error}); delete it, and it is made again"
        ) from error
    n, k = len(numbers), len(energy)
    shapes = {
        "positions": (positions.shape, (n, 3)),
        "cell": (cell.shape, (3, 3)),
        "group": (group.shape, (n,)),
        "forces": (forces.shape, (k, n, 3)),
        "virial": (virial.shape, (k, 3, 3)),
    }
    for what, (came, expected) in shapes.items():
        if came != expected:
            raise ConfigError(
                f"{file}: {what} has shape {came}, expected {expected} for {n} atoms in {k} "
                "groups; delete it, and it is made again"
            )
    temperature = None if np.isnan(kelvin) else kelvin
    structure = Structure(name, kind, numbers, positions, cell, group, temperature)
    return Labelled(structure, energy, forces, virial)


def rows_of(labelled: Labelled) -> NDArray[np.float64]:
    """The labels as the right-hand side of least squares.

    Returns:
        (K, 1 + 3N + 6): energy (eV), forces (eV/Å) atom by atom, virial (eV) as xx yy zz yz xz xy.
        Descriptor rows have the same order.
    """
    k = len(labelled.energy)
    voigt: Matrix = labelled.virial[:, (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
    return np.concatenate([labelled.energy[:, None], labelled.forces.reshape(k, -1), voigt], axis=1)


def less(labelled: Labelled, rows: NDArray[np.float64]) -> Labelled:
    """The labels less what a fixed potential says.

    Args:
        labelled: of a structure.
        rows: (K, 1 + 3N + 6) the potential's own energies, forces and virials, as `rows_of`.
    """
    k, n = len(labelled.energy), len(labelled.structure)
    virial = np.zeros((k, 3, 3))
    i, j = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)
    virial[:, i, j] = rows[:, -6:]
    virial[:, j, i] = rows[:, -6:]
    return Labelled(
        labelled.structure,
        labelled.energy - rows[:, 0],
        labelled.forces - rows[:, 1:-6].reshape(k, n, 3),
        labelled.virial - virial,
    )
