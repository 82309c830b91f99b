"""Topology (elements and periodic axes of a run) and frame (positions and cell of an evaluation).

Knows no sockets, regions or workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mixserver.core.arrays import Matrix, Numbers, Vectors
from mixserver.core.cell import inverse_cell, volume
from mixserver.core.errors import UpstreamError


@dataclass(frozen=True, slots=True)
class Topology:
    """The elements of the atoms and the periodic axes.

    i-PI sends positions only, so these come from the structure file named in mix.toml.
    """

    numbers: Numbers
    """(N,) atomic numbers, in i-PI's order."""
    pbc: tuple[bool, bool, bool] = (True, True, True)

    def __len__(self) -> int:
        return len(self.numbers)

    def frame(
        self,
        positions: Vectors,
        cell: Matrix,
        *,
        bead: int = 0,
        number: int = 0,
        parameters: str = "",
        request_id: int = 0,
    ) -> Frame:
        """Make the frame of one request, or refuse what no potential can evaluate.

        Args:
            positions: (N, 3) Å, as i-PI sent them, unwrapped.
            cell: (3, 3) Å, rows are lattice vectors.
            bead: replica index.
            number: counts evaluations.
            parameters: see `Frame`.
            request_id: see `Frame`.

        Raises:
            UpstreamError: a wrong number of atoms, a position that is not finite, a flat cell.
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
        try:
            inverse_cell(cell)
        except ValueError as error:
            raise UpstreamError(f"i-PI sent {error}") from error
        return Frame(self, positions, cell, bead, number, parameters, request_id)


@dataclass(frozen=True)
class Frame:
    """Positions and cell of one evaluation."""

    topology: Topology
    positions: Vectors = field(repr=False)
    """(N, 3) Å, unwrapped, as i-PI sent them."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors."""
    bead: int = 0
    """Replica index."""
    number: int = 0
    """Counts the evaluations of this server."""
    parameters: str = ""
    """i-PI's parameters of the request, for a model that is not mixed."""
    request_id: int = 0
    """i-PI's number of the request, likewise."""

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def inverse(self) -> Matrix:
        """(3, 3) 1/Å: cartesian -> fractional is ``positions @ inverse``."""
        return inverse_cell(self.cell)

    @cached_property
    def fractional(self) -> Vectors:
        """(N, 3) positions in lattice vectors, unwrapped like `positions`."""
        fractional: Vectors = self.positions @ self.inverse
        return fractional

    @cached_property
    def wrapped(self) -> Vectors:
        """(N, 3) Å: positions wrapped into the cell along periodic axes."""
        shift = np.floor(self.fractional)
        if not all(self.topology.pbc):
            shift *= self.topology.pbc
        if not shift.any():
            return self.positions
        moved: Vectors = self.positions - shift @ self.cell
        return moved

    @property
    def volume(self) -> float:
        """The volume of the cell, Å³."""
        return volume(self.cell)
