"""Positions and cell, for models that look at more than edge vectors.

Such a model is a function E(v, x, h) of edge vectors, positions and lattice vectors. The three are
leaves of their own, although v follows from x and h: the chain rule is applied afterwards, in
float64. With a strain s, all of them become themselves times (1 + s).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mixserver.core.arrays import Matrix, Vectors
from mixserver.core.cell import complete_cell, inverse_cell
from mixserver_worker.engines.torch.graph import Graph


@dataclass(frozen=True, slots=True)
class Lattice:
    """The lattice of a graph's atoms on the device."""

    cell: torch.Tensor
    """(3, 3) float64 Å, rows; 0 along open axes."""
    pbc: torch.Tensor
    """(3,) bool."""
    images: torch.Tensor
    """(E, 3) int32: shift = images @ cell, of each edge of the graph."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The atoms of one evaluation, in the precision of the model."""

    positions: torch.Tensor
    """(M, 3) Å, a leaf."""
    cell: torch.Tensor
    """(3, 3) Å, a leaf; rows are lattice vectors, 0 along open axes."""
    pbc: torch.Tensor
    """(3,) bool."""
    images: torch.Tensor
    """(K, 3) int32: the vector of an edge is positions[receiver] - positions[sender] + images @
    cell."""


def lattice_of(
    graph: Graph, cell: Matrix, pbc: tuple[bool, bool, bool], device: torch.device
) -> Lattice:
    """The lattice of a graph.

    Args:
        graph: the graph.
        cell: (3, 3) Å, rows are lattice vectors; those of open axes are ignored.
        pbc: which axes are periodic.
        device: of torch.
    """
    periodic = np.array(pbc)
    images = np.rint(graph.shift @ inverse_cell(complete_cell(cell, pbc))) * periodic
    return Lattice(
        torch.from_numpy(np.where(periodic[:, None], cell, 0.0)).to(device),
        torch.from_numpy(periodic).to(device),
        torch.from_numpy(images.astype(np.int32)).to(device),
    )


def whole_of(lattice: Lattice, positions: Vectors, kept: torch.Tensor, dtype: torch.dtype) -> Whole:
    """The atoms of one evaluation, around the origin so that float32 is exact enough.

    Args:
        lattice: of the graph.
        positions: (M, 3) Å in the graph's order.
        kept: (K,) edges within the cutoff.
        dtype: precision of the model.
    """
    centred = torch.from_numpy(positions - positions.mean(axis=0)).to(lattice.cell.device)
    return Whole(
        centred.to(dtype).requires_grad_(True),
        lattice.cell.to(dtype, copy=True).requires_grad_(True),
        lattice.pbc,
        lattice.images[kept],
    )


def add_gradient(
    whole: Whole,
    slopes: tuple[torch.Tensor | None, torch.Tensor | None],
    forces: torch.Tensor,
    virial: torch.Tensor,
) -> None:
    """Add what positions and cell contribute to forces and virial, in place.

    Args:
        whole: the atoms.
        slopes: dE/dx (M, 3) and dE/dh (3, 3), None where the model does not look at them.
        forces: (M, 3) eV/Å.
        virial: (3, 3) eV, -dE/dstrain before it is made symmetric.
    """
    of_positions, of_cell = slopes
    if of_positions is not None:
        forces -= of_positions.double()
        virial -= whole.positions.detach().double().T @ of_positions.double()
    if of_cell is not None:
        virial -= whole.cell.detach().double().T @ of_cell.double()
