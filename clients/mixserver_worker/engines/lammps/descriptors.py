"""SNAP descriptor rows of one structure, from LAMMPS's `compute snap`.

Atoms are divided into groups, and one evaluation gives the rows of each group: there is one atom
type per element and group, and the compute has separate columns for each type.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Block, Groups, Matrix, Numbers, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.strain import stress_from_voigt, stress_to_voigt
from mixserver.wire.descriptor import SnapDescriptor
from mixserver_worker.engines.elements import NUMBERS, listed
from mixserver_worker.engines.lammps.box import Box, box_for
from mixserver_worker.engines.lammps.library import LammpsError, LammpsLibrary

_PERIODIC: Final = (True, True, True)
_MOST_NEIGHBOURS: Final = 10000
"""Per atom; also LAMMPS's limit. Denser structures are mistakes, in flat cells without end."""


def snap_rows(
    settings: SnapDescriptor, numbers: Numbers, positions: Vectors, cell: Matrix, group: Groups
) -> Block:
    """Compute the rows of one structure.

    Args:
        settings: of the descriptors.
        numbers: (N,) atomic numbers.
        positions: (N, 3) Å.
        cell: (3, 3) Å, any orientation and handedness; all three vectors repeat.
        group: (N,) from 0.

    Returns:
        (K, 1 + 3N + 6, E * columns): for each group the energy of its sites, its gradient as
        forces on all atoms, and its virial xx yy zz yz xz xy (eV), per coefficient. An element's
        columns begin with its constant.

    Raises:
        ConfigError: an element without settings, a cell that is too small, or LAMMPS refused.
    """
    volume = abs(float(np.linalg.det(cell)))
    if len(numbers) * 4.19 * settings.reach**3 > _MOST_NEIGHBOURS * volume:
        raise ConfigError(
            f"the cell {cell.tolist()} (Å) has {volume:.3g} Å³ for {len(numbers)} atoms, which is "
            "too dense for a crystal. Correct the structure"
        )
    unknown = [symbol for symbol in settings.elements if symbol not in NUMBERS]
    if unknown:
        raise ConfigError(f"there are no chemical elements {', '.join(unknown)}")
    known = [NUMBERS[symbol] for symbol in settings.elements]
    missing = sorted(set(numbers.tolist()) - set(known))
    if missing:
        raise ConfigError(
            f"there are atoms of {listed(missing)}, but the potential is for "
            f"{', '.join(settings.elements)}"
        )
    n, groups, elements = len(numbers), int(group.max()) + 1, len(known)
    element = np.array([known.index(int(number)) for number in numbers])
    box = box_for(positions, cell, _PERIODIC)
    types = (element * groups + group + 1).astype(np.int32)
    inside = box.wrapped(box.inward(positions))
    with closing(LammpsLibrary(["-log", "none"])) as library:
        try:
            table = _computed(library, settings, box, inside, types, groups)
        except LammpsError as error:
            raise ConfigError(f"LAMMPS refuses to compute descriptors: {error}") from error
    columns = (table.shape[1] - 1) // (elements * groups)
    # (rows, element, group, columns) without LAMMPS's last column, its own energies and forces
    blocks = table[:, :-1].reshape(-1, elements, groups, columns)
    rows = np.zeros((groups, 1 + 3 * n + 6, elements, 1 + columns))
    rows[:, :, :, 1:] = blocks.transpose(2, 0, 1, 3)
    for at in range(elements):
        rows[:, 0, at, 0] = np.bincount(group[element == at], minlength=groups)
    out: Block = rows.reshape(groups, 1 + 3 * n + 6, -1)
    if box.rotation is not None:
        _rotate_back(out, n, box.rotation)
    return out


def _computed(
    library: LammpsLibrary,
    settings: SnapDescriptor,
    box: Box,
    positions: Vectors,
    types: NDArray[np.int32],
    groups: int,
) -> Block:
    """The table of `compute snap`: rows for energy, forces and virial; columns by type."""
    command = library.command
    for text in ("units metal", "atom_style atomic", "atom_modify map array sort 0 0"):
        command(text)
    command("boundary p p p")
    command("box tilt large")
    command(box.region_command())
    command(f"create_box {len(settings.elements) * groups} mx_box")
    command("mass * 1.0")
    library.create_atoms(types, positions)
    if library.atoms != len(types):
        raise LammpsError(f"it accepted {library.atoms} of {len(types)} atoms")
    command(f"pair_style zero {settings.reach + 0.1:.17g}")
    command("pair_coeff * *")
    command("neighbor 0.1 bin")
    command(f"neigh_modify one {_MOST_NEIGHBOURS}")

    def each(values: tuple[float, ...]) -> str:
        return " ".join(f"{value:.17g}" for value in values for _ in range(groups))

    command(
        f"compute mx_rows all snap {settings.cutoff:.17g} {settings.rfac0:.17g} "
        f"{settings.twojmax} {each(settings.radii)} {each(settings.weights)} "
        f"rmin0 {settings.rmin0:.17g} bzeroflag {settings.bzero:d} "
        f"quadraticflag {settings.quadratic:d}"
    )
    command("thermo_style custom step c_mx_rows[1][1]")
    command("timer off")
    command("run 0 post no")
    return library.table("mx_rows").copy()


def _rotate_back(rows: Block, n: int, rotation: Matrix) -> None:
    """Rotate forces and virials back into the frame of the structure, in place."""
    groups, _, p = rows.shape
    force = rows[:, 1 : 1 + 3 * n].reshape(groups, n, 3, p)
    rows[:, 1 : 1 + 3 * n] = np.einsum("ab,gnbp->gnap", rotation, force).reshape(groups, 3 * n, p)
    virial = np.moveaxis(stress_from_voigt(np.moveaxis(rows[:, -6:], 1, -1)), 1, -1)
    rotated = np.einsum("ac,gcdp,bd->gabp", rotation, virial, rotation)
    rows[:, -6:] = np.moveaxis(stress_to_voigt(np.moveaxis(rotated, -1, 1)), -1, 1)
