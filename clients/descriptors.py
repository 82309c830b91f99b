"""Descriptor rows of one structure from LAMMPS's `compute snap`.

Atoms are divided into groups, and each group has rows of its own from one evaluation: an atom type
is an element in a group, and the compute keeps the columns of types apart. Knows no files.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from clients.engines.elements import NUMBERS, listed
from clients.engines.lammps_box import Box, box_for
from clients.engines.lammps_library import LammpsError, Library
from mixserver.arrays import Matrix, Numbers, Vectors
from mixserver.errors import ConfigError

Block = NDArray[np.float64]

_VOIGT: Final = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
_ALL: Final = (True, True, True)
_MOST_NEIGHBOURS: Final = 10000
"""Of an atom; also what LAMMPS is told. A denser cell is nonsense, and a flat one has no end."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of the descriptors, in LAMMPS's words; radii and weights one per element."""

    twojmax: int
    cutoff: float
    elements: tuple[str, ...]
    radii: tuple[float, ...]
    weights: tuple[float, ...]
    rfac0: float
    rmin0: float
    quadratic: bool
    bzero: bool

    def __post_init__(self) -> None:
        count = len(self.elements)
        if not count or len(set(self.elements)) != count:
            raise ValueError(f"elements are {self.elements}; name each once, at least one")
        if len(self.radii) != count or len(self.weights) != count:
            raise ValueError(
                f"{count} elements, but {len(self.radii)} radii and {len(self.weights)} weights"
            )
        if self.twojmax < 1 or not self.reach > 0.0:
            raise ValueError(
                f"twojmax is {self.twojmax}, the largest reach {self.reach} Å; both must be above 0"
            )

    @property
    def reach(self) -> float:
        """Å: the largest distance at which any two elements see each other."""
        return 2.0 * max(self.radii) * self.cutoff


def snap_rows(
    settings: Settings, numbers: Numbers, positions: Vectors, cell: Matrix, group: NDArray[np.int32]
) -> Block:
    """Rows of one structure.

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
        ConfigError: an element without settings, a cell without room, or LAMMPS refused.
    """
    room = abs(float(np.linalg.det(cell)))
    if len(numbers) * 4.19 * settings.reach**3 > _MOST_NEIGHBOURS * room:
        raise ConfigError(
            f"the cell {cell.tolist()} (Å) has {room:.3g} Å³ for {len(numbers)} atoms; it must "
            "span a crystal. Correct the structure"
        )
    strangers = [symbol for symbol in settings.elements if symbol not in NUMBERS]
    if strangers:
        raise ConfigError(f"there are no chemical elements {', '.join(strangers)}")
    known = [NUMBERS[symbol] for symbol in settings.elements]
    strange = sorted(set(numbers.tolist()) - set(known))
    if strange:
        raise ConfigError(
            f"there are atoms of {listed(strange)}, but the potential is for "
            f"{', '.join(settings.elements)}"
        )
    n, groups, kinds = len(numbers), int(group.max()) + 1, len(known)
    element = np.array([known.index(int(number)) for number in numbers])
    box = box_for(positions, cell, _ALL)
    library = Library(["-log", "none"])
    try:
        types = (element * groups + group + 1).astype(np.int32)
        table = _computed(library, settings, box, box.wrapped(box.inward(positions)), types, groups)
    except LammpsError as error:
        raise ConfigError(f"LAMMPS refuses to compute descriptors: {error}") from error
    finally:
        library.close()
    columns = (table.shape[1] - 1) // (kinds * groups)
    # (rows, element, group, columns) without LAMMPS's own last column
    blocks = table[:, :-1].reshape(-1, kinds, groups, columns)
    rows = np.zeros((groups, 1 + 3 * n + 6, kinds, 1 + columns))
    rows[:, :, :, 1:] = blocks.transpose(2, 0, 1, 3)
    for of in range(kinds):
        rows[:, 0, of, 0] = np.bincount(group[element == of], minlength=groups)
    out: Block = rows.reshape(groups, 1 + 3 * n + 6, -1)
    if box.rotation is not None:
        _turn(out, n, box.rotation)
    return out


def _computed(
    library: Library,
    settings: Settings,
    box: Box,
    positions: Vectors,
    types: NDArray[np.int32],
    groups: int,
) -> Block:
    """The table of `compute snap`: energy row, forces, virial; columns by type."""
    command = library.command
    kinds = len(settings.elements) * groups
    for text in ("units metal", "atom_style atomic", "atom_modify map array sort 0 0"):
        command(text)
    command("boundary p p p")
    command("box tilt large")
    edges = box.edges
    command(
        f"region mx_box prism 0 {edges[0, 0]:.17g} 0 {edges[1, 1]:.17g} 0 {edges[2, 2]:.17g} "
        f"{edges[1, 0]:.17g} {edges[2, 0]:.17g} {edges[2, 1]:.17g} units box"
    )
    command(f"create_box {kinds} mx_box")
    command("mass * 1.0")
    library.create_atoms(types, positions)
    if library.atoms != len(types):
        raise LammpsError(f"it took {library.atoms} of {len(types)} atoms")
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


def _turn(rows: Block, n: int, rotation: Matrix) -> None:
    """Turn forces and virials back into the frame of the structure, in place."""
    groups, _, p = rows.shape
    force = rows[:, 1 : 1 + 3 * n].reshape(groups, n, 3, p)
    rows[:, 1 : 1 + 3 * n] = np.einsum("ab,gnbp->gnap", rotation, force).reshape(groups, 3 * n, p)
    virial = np.zeros((groups, 3, 3, p))
    i, j = _VOIGT
    virial[:, i, j] = rows[:, -6:]
    virial[:, j, i] = rows[:, -6:]
    turned = np.einsum("ac,gcdp,bd->gabp", rotation, virial, rotation)
    rows[:, -6:] = turned[:, i, j]
