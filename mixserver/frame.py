"""What is evaluated: the topology that never changes and the frame that always does.

Knows nothing of sockets, regions or workers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mixserver.arrays import Matrix, Numbers, Vectors
from mixserver.errors import UpstreamError


@dataclass(frozen=True, slots=True)
class Topology:
    """Which atom is which element, and along which lattice vectors the system repeats.

    i-PI sends positions only, so this comes from the structure file named in mix.toml.
    """

    numbers: Numbers
    """(N,) atomic numbers, in i-PI's order."""
    pbc: tuple[bool, bool, bool] = (True, True, True)

    def __len__(self) -> int:
        return len(self.numbers)

    def frame(self, positions: Vectors, cell: Matrix, *, bead: int = 0, number: int = 0) -> Frame:
        """Name the atoms of one request, and refuse what no potential could evaluate.

        Args:
            positions: (N, 3) Å, as upstream sent them, unwrapped.
            cell: (3, 3) Å, rows are lattice vectors.
            bead: replica index.
            number: counts evaluations.

        Raises:
            UpstreamError: another number of atoms, a position that is not finite, a flat cell.
        """
        if len(positions) != len(self.numbers):
            raise UpstreamError(
                f"i-PI sent {len(positions)} atoms but the structure that names them has "
                f"{len(self.numbers)}. i-PI's <initialize> file and mix.toml's upstream.structure "
                "must hold the same atoms in the same order."
            )
        if not np.isfinite(positions).all():
            atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
            raise UpstreamError(
                f"i-PI sent a position that is not finite (atom {atom}, bead {bead}): its "
                "integrator has blown up. Look at the last steps: time step, thermostat, overlaps."
            )
        if _inverse(cell.tobytes()) is None:
            raise UpstreamError(f"i-PI sent a cell without a volume: {cell.tolist()} (Å)")
        return Frame(self, positions, cell, bead, number)


@dataclass(frozen=True)
class Frame:
    """Positions and cell of one evaluation."""

    topology: Topology
    positions: Vectors = field(repr=False)
    """(N, 3) Å, unwrapped, as upstream sent them."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors."""
    bead: int = 0
    """Replica index."""
    number: int = 0
    """Counts the evaluations of this server."""

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def inverse(self) -> Matrix:
        """(3, 3) 1/Å: cartesian -> fractional is ``positions @ inverse``."""
        known = _inverse(self.cell.tobytes())
        return np.linalg.inv(self.cell).astype(np.float64) if known is None else known

    @cached_property
    def fractional(self) -> Vectors:
        """(N, 3) positions in lattice vectors, unwrapped like `positions`."""
        fractional: Vectors = self.positions @ self.inverse
        return fractional

    @cached_property
    def wrapped(self) -> Vectors:
        """(N, 3) Å: every atom moved by lattice vectors into the cell (periodic axes only)."""
        shift = np.floor(self.fractional)
        if not all(self.topology.pbc):
            shift *= self.topology.pbc
        if not shift.any():
            return self.positions
        moved: Vectors = self.positions - shift @ self.cell
        return moved

    @property
    def volume(self) -> float:
        """Å³ of the cell."""
        return float(abs(np.linalg.det(self.cell)))


@functools.lru_cache(maxsize=256)
def _inverse(raw: bytes) -> Matrix | None:
    """Inverse of a cell given as bytes, read-only; None if it has no volume."""
    cell = np.frombuffer(raw, np.float64).reshape(3, 3)
    if not np.isfinite(cell).all() or abs(np.linalg.det(cell)) < 1e-6:
        return None
    inverse: Matrix = np.linalg.inv(cell).astype(np.float64)
    inverse.flags.writeable = False
    return inverse
