"""Structures and their labels: a model's energies, forces and virials, by group of atoms.

A label holds the energy of each group of atoms, the sum of their site energies e_i, with its
gradient and virial. The sum over groups is the ordinary label; any other weighting that is constant
on groups is a combination of them. Reads and writes .npz files.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixserver.core.arrays import Block, Groups, Matrix, Numbers, Scalars, Vectors
from mixserver.core.atomic_write import atomic_writer
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.core.strain import stress_from_voigt, stress_to_voigt
from mixserver.distill.data.atom_groups import single_group

_ARRAYS = ("numbers", "positions", "cell", "group", "energy", "forces", "virial")


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in a periodic cell, divided into groups."""

    name: str
    """Unique in a distillation; names its files."""
    kind: str
    """Its use: "hot", "strained", "vacancy", "given", "lost", "hard" or "partition"."""
    numbers: Numbers
    """(N,) atomic numbers."""
    positions: Vectors
    """(N, 3) Å."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors; all three repeat."""
    group: Groups
    """(N,) the group 0 .. K-1 of each atom; all 0 for a single group."""
    temperature: float | None = None
    """K, at which it was sampled in MD; None if it was not."""

    @classmethod
    def of(
        cls,
        frame: Frame,
        name: str,
        kind: str,
        group: Groups | None = None,
        temperature: float | None = None,
    ) -> Structure:
        """The atoms of a frame, in one group unless their groups (N,) are given."""
        group = single_group(len(frame)) if group is None else group
        numbers = frame.topology.numbers
        return cls(name, kind, numbers, frame.positions, frame.cell, group, temperature)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def groups(self) -> int:
        """The number K of groups."""
        return int(self.group.max()) + 1

    @property
    def frame(self) -> Frame:
        """Its atoms and cell."""
        return Topology(self.numbers).frame(self.positions, self.cell)

    @property
    def family(self) -> str:
        """The kind with the temperature, for errors by kind of structure: "hot 600 K"."""
        if self.temperature is None:
            return self.kind
        return f"{self.kind} {self.temperature:g} K"


@dataclass(frozen=True, eq=False)
class LabelledStructure:
    """A structure with a model's results for each of its groups."""

    structure: Structure
    energy: Scalars
    """(K,) eV, the sum of the group's site energies."""
    forces: Block
    """(K, N, 3) eV/Å, minus the gradient of `energy` on every atom."""
    virial: Block
    """(K, 3, 3) eV, -dE/dstrain."""

    def save(self, file: Path) -> None:
        """Write it to an .npz file, atomically."""
        s = self.structure
        with atomic_writer(file) as stream:
            np.savez(
                stream,
                name=s.name,
                kind=s.kind,
                temperature=np.nan if s.temperature is None else s.temperature,
                numbers=s.numbers,
                positions=s.positions,
                cell=s.cell,
                group=s.group,
                energy=self.energy,
                forces=self.forces,
                virial=self.virial,
            )


def load_labels(file: Path) -> LabelledStructure:
    """Read what `LabelledStructure.save` wrote.

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
            f"{file} is not a labelled structure ({error}); delete it to compute it again"
        ) from error
    n, k = len(numbers), len(energy)
    shapes = {
        "positions": (positions, (n, 3)),
        "cell": (cell, (3, 3)),
        "group": (group, (n,)),
        "forces": (forces, (k, n, 3)),
        "virial": (virial, (k, 3, 3)),
    }
    for what, (array, expected) in shapes.items():
        if array.shape != expected:
            raise ConfigError(
                f"{file}: {what} has shape {array.shape}, expected {expected} for {n} atoms in {k} "
                "groups; delete it to compute it again"
            )
    temperature = None if np.isnan(kelvin) else kelvin
    structure = Structure(name, kind, numbers, positions, cell, group, temperature)
    return LabelledStructure(structure, energy, forces, virial)


def label_rows(labelled: LabelledStructure) -> Block:
    """The labels as the right-hand side of least squares.

    Returns:
        (K, 1 + 3N + 6): energy (eV), forces (eV/Å) atom by atom, virial (eV) as xx yy zz yz xz xy.
        Descriptor rows have the same order.
    """
    k = len(labelled.energy)
    virial = stress_to_voigt(labelled.virial)
    return np.concatenate(
        [labelled.energy[:, None], labelled.forces.reshape(k, -1), virial], axis=1
    )


def subtract_potential(labelled: LabelledStructure, rows: Block) -> LabelledStructure:
    """The labels minus a fixed potential, whose rows (K, 1 + 3N + 6) are like `label_rows`."""
    k, n = len(labelled.energy), len(labelled.structure)
    return LabelledStructure(
        labelled.structure,
        labelled.energy - rows[:, 0],
        labelled.forces - rows[:, 1:-6].reshape(k, n, 3),
        labelled.virial - stress_from_voigt(rows[:, -6:]),
    )
