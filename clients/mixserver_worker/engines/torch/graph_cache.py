"""Keeps neighbour lists with a skin, and the graphs pruned from them.

The structures of one job are independent parts of one graph, each with a list of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixserver.core.arrays import Mask, Matrix, Numbers, Vectors
from mixserver_worker.engines.neighbours import nearest_images
from mixserver_worker.engines.torch.edges import EdgeList, find_edges
from mixserver_worker.engines.torch.graph import Graph, prune, within


@dataclass(frozen=True, slots=True)
class Structure:
    """The atoms of one stream."""

    stream: int
    positions: Vectors
    numbers: Numbers
    cell: Matrix
    pbc: tuple[bool, bool, bool]


@dataclass(frozen=True, slots=True)
class _NeighbourList:
    """The neighbour list of one structure, and when it holds."""

    numbers: Numbers
    cell: Matrix
    pbc: tuple[bool, bool, bool]
    edges: EdgeList

    def unwrap(self, structure: Structure, skin: float) -> Vectors | None:
        """Move positions by lattice vectors to the images for which the list holds.

        Returns:
            (n, 3) Å, or None if it does not hold: an atom moved by more than half the skin.
        """
        if (
            self.pbc != structure.pbc
            or not np.array_equal(self.cell, structure.cell)
            or not np.array_equal(self.numbers, structure.numbers)
        ):
            return None
        unwrapped = nearest_images(structure.positions, self.edges.positions, self.cell, self.pbc)
        moved = unwrapped - self.edges.positions
        if np.einsum("ij,ij->i", moved, moved).max() > (0.5 * skin) ** 2:
            return None
        return unwrapped


@dataclass(slots=True)
class CachedGraph:
    """The graph of one job, and the neighbour lists that it was pruned from."""

    lists: list[_NeighbourList]
    edges: EdgeList
    """Of all structures."""
    active: Mask
    graph: Graph
    on_device: Any = None
    """What the engine derives from the graph; removed when the graph changes."""


class GraphCache:
    """Graphs by stream; the least recently used are dropped.

    Args:
        cutoff: Å, of one layer.
        layers: of the model.
        skin: Å by which lists extend beyond the cutoff, so that they hold for many steps.
        most: how many streams are kept.
        distance: Å that a site looks, of a model whose layers are not known; its jobs have one
            structure.
    """

    def __init__(
        self,
        cutoff: float,
        layers: int,
        skin: float,
        most: int = 64,
        distance: float | None = None,
    ) -> None:
        self._reach = cutoff + skin
        self._layers = layers
        self._skin = skin
        self._most = most
        self._distance = None if distance is None else distance + skin
        self.graphs: OrderedDict[tuple[int, ...], CachedGraph] = OrderedDict()

    def get(self, structures: Sequence[Structure], active: Mask) -> tuple[CachedGraph, Vectors]:
        """The graph of some structures, updated for their atoms and sites.

        Args:
            structures: of one job, at least one.
            active: (n,) sites of all of them, one structure after the other.

        Returns:
            The graph, and the positions (n, 3) Å to be used with it.
        """
        streams = tuple(structure.stream for structure in structures)
        cached = self.graphs.pop(streams, None)
        lists: list[_NeighbourList] = []
        positions: list[Vectors] = []
        changed = cached is None
        for index, structure in enumerate(structures):
            one = None if cached is None else cached.lists[index]
            unwrapped = None if one is None else one.unwrap(structure, self._skin)
            if one is None or unwrapped is None:
                one, changed = self._list(structure), True
                unwrapped = one.edges.positions
            lists.append(one)
            positions.append(unwrapped)
        if cached is None or changed:
            edges = _joined([one.edges for one in lists])
            cached = CachedGraph(lists, edges, active, self._graph(lists[0], edges, active))
        elif not np.array_equal(cached.active, active):
            cached.active = active
            cached.graph = self._graph(lists[0], cached.edges, active)
            cached.on_device = None
        self.graphs[streams] = cached
        while len(self.graphs) > self._most:
            self.graphs.popitem(last=False)
        return cached, positions[0] if len(positions) == 1 else np.concatenate(positions)

    def clear(self) -> None:
        """Drop all graphs."""
        self.graphs.clear()

    def _graph(self, first: _NeighbourList, edges: EdgeList, active: Mask) -> Graph:
        if self._distance is None:
            return prune(edges, active, self._layers)
        return within(edges, first.cell, first.pbc, active, self._distance)

    def _list(self, structure: Structure) -> _NeighbourList:
        edges = find_edges(structure.positions, structure.cell, structure.pbc, self._reach)
        return _NeighbourList(structure.numbers.copy(), structure.cell.copy(), structure.pbc, edges)


def _joined(lists: Sequence[EdgeList]) -> EdgeList:
    """The edges of independent structures as those of one."""
    if len(lists) == 1:
        return lists[0]
    counts = [len(one.positions) for one in lists]
    before = np.cumsum([0, *counts[:-1]])
    return EdgeList(
        np.concatenate([one.sender + start for one, start in zip(lists, before, strict=True)]),
        np.concatenate([one.receiver + start for one, start in zip(lists, before, strict=True)]),
        np.concatenate([one.shift for one in lists]),
        np.concatenate([one.positions for one in lists]),
    )
