"""Weighted site energies and their gradient through the public stages of symmetrix-xl.

The energy sum_i w_i e_i needs weights in the adjoints of the two readouts, which can be set between
the forward and the reverse stages. Each layer is evaluated on the atoms that sites depend on only:
arrays are sorted so that numbers of atoms say how far a stage goes.

Numbers cross the interface as Python lists, 15 to 25 ns each way. Of H1 only its adjoint crosses,
and not even that is read: the first readout is linear, so its gradient is the same for all sites.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from mixserver.core.arrays import Scalars, Vectors
from mixserver_worker.engines.symmetrix.active_edges import ActiveEdges, Types

_L_MAX: Final = 3
_LARGEST: Final = 2**31 - 1
"""symmetrix-xl numbers the values of its arrays with 32 bits, and does not check that they fit."""


class StagedModel:
    """A converted model whose layers are evaluated stage by stage.

    Not thread-safe: the evaluator keeps what the stages compute.

    Args:
        evaluator: the class of symmetrix-xl.
        file: the converted model.
        head: name of the head; "" for a model of one head.
    """

    def __init__(self, evaluator: Any, file: Path, head: str) -> None:
        self._model = evaluator(str(file), head)
        self._model.set_streamed_edges("materialized")
        self.cutoff = float(self._model.r_cut)
        self.species = tuple(int(z) for z in self._model.atomic_numbers)
        self._prepared: tuple[int, ...] = ()
        self._keeps_rows = "Kokkos" in evaluator.__name__
        """Whether arrays keep the rows of larger evaluations; adjoints with fewer are discarded."""
        self._rows = 0
        self._slope = self._readout_slope()
        self._residual: Vectors | None = None
        order = int(self._model.L_max)
        self._channels = len(self._slope) // (order + 1) ** 2
        self._radial = (_L_MAX + 1) * self._channels, _paths(order) * self._channels

    def evaluate(self, edges: ActiveEdges, weight: Scalars) -> tuple[Scalars, Vectors]:
        """Site energies and the gradient of their weighted sum.

        Args:
            edges: with `types` of this model, at least one edge.
            weight: (sites,) of the sites.

        Returns:
            (sites,) eV, energies; (E, 3) eV/Å, minus the gradient with respect to the edge vectors.

        Raises:
            OverflowError: more edges than symmetrix-xl can number.
        """
        for count, values in zip((len(edges.sender), edges.site_edges), self._radial, strict=True):
            if count * values > _LARGEST:
                raise OverflowError(
                    f"{count} edges with {values} radial functions each are more than symmetrix-xl "
                    "can number"
                )
        self.prepare(edges.types)
        self._forward(edges)
        return self._energies(edges), self._reverse(edges, weight)

    def prepare(self, types: Types) -> None:
        """Make the splines of these types, unless they are those of the last call."""
        present = tuple(np.unique(types).tolist())
        if present != self._prepared:
            self._prepared = ()
            self._model.prepare_active_types(np.array(present, np.int32))
            self._prepared = present
            self._residual = self._first_residual(np.array(present, np.int32))

    def _forward(self, edges: ActiveEdges) -> None:
        model, sites, first, second = self._model, edges.sites, edges.receivers, edges.site_edges
        types, count, sender_types = edges.types, edges.count, edges.sender_types
        length = edges.length
        model.compute_Y(edges.vector.ravel())
        model.compute_R0(first, types[:first], count, sender_types, length)
        model.compute_A0(first, types[:first], count, sender_types)
        model.compute_A0_scaled(first, types[:first], count, sender_types, length)
        model.compute_M0(first, types[:first])
        model.compute_H1(first)
        if self._residual is not None:
            self._add_residual(types[:first], self._residual)
        near, near_types = count[:sites], sender_types[:second]
        model.compute_R1(sites, types[:sites], near, near_types, length[:second])
        model.compute_Phi1(sites, near, edges.sender)
        model.compute_A1(sites)
        model.compute_A1_scaled(sites, types[:sites], near, sender_types, length)
        model.compute_M1(sites, types[:sites])
        model.compute_H2(sites, types[:sites])

    def _energies(self, edges: ActiveEdges) -> Scalars:
        self._model.node_energies = [0.0] * edges.sites  # readouts add to them
        self._model.compute_readouts(edges.sites, edges.types[: edges.sites])
        energies: Scalars = _rows(self._model.node_energies, edges.sites, 1)[:, 0]
        return energies

    def _reverse(self, edges: ActiveEdges, weight: Scalars) -> Vectors:
        model, sites, first = self._model, edges.sites, edges.receivers
        types, count, sender_types = edges.types, edges.count, edges.sender_types
        vector, length = edges.vector.ravel(), edges.length
        self._rows = max(self._rows, first) if self._keeps_rows else first
        rest = [0.0] * ((self._rows - sites) * len(self._slope))
        model.H1_adj = (weight[:, None] * self._slope).ravel().tolist() + rest
        adjoint = _rows(model.H2_adj, sites, self._channels)
        model.H2_adj = (weight[:, None] * adjoint).ravel().tolist()
        model.node_forces = [0.0] * len(vector)  # the reverse stages add to them
        near = count[:sites]
        model.reverse_H2(sites, types[:sites], False)
        model.reverse_M1(sites, types[:sites])
        model.reverse_A1_scaled(sites, types[:sites], near, sender_types, vector, length)
        model.reverse_A1(sites)
        model.reverse_Phi1(sites, near, edges.sender, vector, length, False, False)
        model.reverse_H1(first)
        model.reverse_M0(first, types[:first])
        model.reverse_A0_scaled(first, types[:first], count, sender_types, vector, length)
        model.reverse_A0(first, types[:first], count, sender_types, vector, length)
        return _rows(model.node_forces, len(length), 3)

    def _readout_slope(self) -> Scalars:
        """(H1 of one atom,) derivative of the first readout with respect to H1."""
        model, one = self._model, np.zeros(1, np.int32)
        self._isolated(one)
        model.node_energies = [0.0]
        model.compute_readouts(1, one)
        slope: Scalars = _rows(model.H1_adj, 1, len(model.H1))[0]
        return slope

    def _first_residual(self, types: Types) -> Vectors | None:
        """(all types, H1 of one atom): H1 of isolated atoms, which compute_H1 leaves out."""
        if not self._model.first_interaction_residual:
            return None
        self._isolated(types)
        table = np.zeros((len(self.species), len(self._slope)))
        table[types] = _rows(self._model.H1, len(types), len(self._slope))
        return table

    def _isolated(self, types: Types) -> None:
        """Evaluate one isolated atom of each type."""
        none, no_types = np.zeros(0), np.zeros(0, np.int32)
        self._rows = max(self._rows, len(types))
        self._model.prepare_active_types(types)
        self._model.compute_node_energies_forces(
            len(types), types, np.zeros(len(types), np.int32), no_types, no_types, none, none
        )

    def _add_residual(self, types: Types, residual: Vectors) -> None:
        known = _rows(self._model.H1, len(types), len(self._slope))
        self._model.H1 = (known + residual[types]).ravel().tolist()


def _paths(order: int) -> int:
    """Number of couplings of harmonics up to l = 3 with features up to `order` in messages."""
    return sum(
        l3 == l1 + l2 - 2 * step
        for l1 in range(_L_MAX + 1)
        for l2 in range(order + 1)
        for step in range(min(l1, l2) + 1)
        for l3 in range(_L_MAX + 1)
    )


def _rows(numbers: list[float], rows: int, width: int) -> Vectors:
    """The first rows of an array; evaluators of several threads keep longer ones."""
    return np.fromiter(numbers, np.float64, rows * width).reshape(rows, width)
