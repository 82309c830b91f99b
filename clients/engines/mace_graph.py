"""Who sends messages to whom: neighbour lists with a skin, kept per stream, and what weights prune.

A layer of MACE moves information by one edge, so a site energy of an L-layer model depends on
atoms up to L edges away, and layer l (counted from 1) is needed only on atoms within L - l edges
of a site with weight. `prune` sorts atoms and edges by that distance; every layer then works on
a prefix. Edges shorter than the model's cutoff must be picked by the user of a graph: the skin
is still in.

NumPy only; knows neither torch nor MACE. Lengths in Å.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mixserver.arrays import Mask, Matrix, Numbers, Vectors

Integers = NDArray[np.intp]

_MARGIN: Final = 1.0
"""Å left empty around the atoms along open axes."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """All ordered pairs closer than some reach, images of the same atom included."""

    sender: Integers
    """(P,)"""
    receiver: Integers
    """(P,)"""
    shift: Vectors
    """(P, 3) Å. A pair's vector is home[receiver] - home[sender] + shift."""
    home: Vectors
    """(n, 3) Å. The images of the atoms for which this holds, close together where possible."""


@dataclass(frozen=True, slots=True)
class Graph:
    """The atoms and edges that a set of sites depends on, nearest first."""

    order: Integers
    """(M,) which of the atoms sent, by edges away from the nearest site."""
    atoms: tuple[int, ...]
    """L + 1 numbers: how many atoms lie within 0, 1, ... L edges of a site."""
    sender: Integers
    """(E,) places in `order`."""
    receiver: Integers
    """(E,) places in `order`; ascending, so by level too."""
    shift: Vectors
    """(E, 3) Å."""
    edges: tuple[int, ...]
    """L numbers: how many edges have a receiver within 0, 1, ... L - 1 edges of a site."""


def find_pairs(
    positions: Vectors, cell: Matrix, pbc: tuple[bool, bool, bool], reach: float
) -> Pairs:
    """Find all pairs closer than `reach` in any cell, periodic along any axes.

    Where the atoms leave a gap wider than `reach` in a periodic direction (a cluster carved out
    of a large cell), the direction is treated as open.

    Args:
        positions: (n, 3) Å, anywhere.
        cell: (3, 3) Å, rows; rows of open axes are ignored, the others must be independent.
        pbc: which axes repeat.
        reach: Å.
    """
    turns, periodic = _gathering(positions, cell, np.array(pbc, dtype=bool), reach)
    home = positions - turns @ cell
    if not periodic.any():
        return _open_pairs(home, reach)
    box, corner = _box(home, cell, periodic)
    wrapping = np.floor((home - corner) @ np.linalg.inv(box)) * periodic
    turns += wrapping
    home = positions - turns @ cell
    first, second, images = neighbour_list(
        "ijS", positions=home - corner, cell=box, pbc=periodic, cutoff=reach
    )
    return Pairs(
        first.astype(np.intp), second.astype(np.intp), images.astype(np.float64) @ box, home
    )


def prune(pairs: Pairs, active: Mask, layers: int) -> Graph:
    """Keep what sites see through `layers` layers, sorted by how many edges away it is.

    Args:
        pairs: of all atoms sent.
        active: (n,) sites with weight.
        layers: L.
    """
    level = np.where(active, 0, layers + 1)
    for hop in range(1, layers + 1):
        reached = pairs.sender[level[pairs.receiver] == hop - 1]
        level[reached] = np.minimum(level[reached], hop)
    order = np.argsort(level, kind="stable")
    atoms = np.searchsorted(level[order], np.arange(layers + 1), side="right")
    order = order[: atoms[-1]]
    place = np.empty(len(level), dtype=np.intp)
    place[order] = np.arange(len(order))
    kept = np.flatnonzero(level[pairs.receiver] < layers)
    receiver = place[pairs.receiver[kept]]
    sender = place[pairs.sender[kept]]
    by_receiver = np.argsort(receiver, kind="stable")
    receiver = receiver[by_receiver]
    return Graph(
        order=order,
        atoms=tuple(int(n) for n in atoms),
        sender=sender[by_receiver],
        receiver=receiver,
        shift=pairs.shift[kept[by_receiver]],
        edges=tuple(int(n) for n in np.searchsorted(receiver, atoms[:layers])),
    )


@dataclass(slots=True)
class Scene:
    """What is remembered of one stream: its neighbour list and its graph."""

    numbers: Numbers
    cell: Matrix
    pbc: tuple[bool, bool, bool]
    pairs: Pairs
    active: Mask
    graph: Graph
    placed: Any = field(default=None)
    """Room for what the user of `graph` derives from it; emptied when the graph changes."""

    def locate(self, positions: Vectors, skin: float) -> Vectors | None:
        """Move positions by lattice vectors to where the list holds.

        Returns:
            (n, 3) Å, or None if an atom moved by more than half the skin.
        """
        periodic = np.array(self.pbc)
        located = positions
        if periodic.any():
            inverse = np.linalg.inv(_completed(self.cell, periodic))
            turns = np.rint((positions - self.pairs.home) @ inverse) * periodic
            # as in find_pairs, so that equal positions are equal to the last bit
            located = positions - turns @ self.cell
        moved = located - self.pairs.home
        if np.einsum("ij,ij->i", moved, moved).max() > (0.5 * skin) ** 2:
            return None
        return located


class Scenes:
    """Scenes by stream; the least recently used are forgotten.

    Args:
        cutoff: Å, of one layer.
        layers: of the model.
        skin: Å by which lists reach further, so that they hold for a while.
        most: how many streams are remembered.
    """

    def __init__(self, cutoff: float, layers: int, skin: float, most: int = 64) -> None:
        self._reach = cutoff + skin
        self._layers = layers
        self._skin = skin
        self._most = most
        self._scenes: OrderedDict[int, Scene] = OrderedDict()
        self.rebuilt = 0
        """How many neighbour lists were made."""

    def visit(
        self,
        stream: int,
        positions: Vectors,
        numbers: Numbers,
        cell: Matrix,
        pbc: tuple[bool, bool, bool],
        active: Mask,
    ) -> tuple[Scene, Vectors]:
        """Bring the scene of a stream up to date.

        Returns:
            The scene, and the positions (n, 3) Å to be used with its graph.
        """
        scene = self._scenes.pop(stream, None)
        located = None
        if (
            scene is not None
            and scene.pbc == pbc
            and np.array_equal(scene.cell, cell)
            and np.array_equal(scene.numbers, numbers)
        ):
            located = scene.locate(positions, self._skin)
        if scene is None or located is None:
            pairs = find_pairs(positions, cell, pbc, self._reach)
            graph = prune(pairs, active, self._layers)
            scene = Scene(numbers.copy(), cell.copy(), pbc, pairs, active, graph)
            located = pairs.home
            self.rebuilt += 1
        elif not np.array_equal(scene.active, active):
            scene.active = active
            scene.graph = prune(scene.pairs, active, self._layers)
            scene.placed = None
        self._scenes[stream] = scene
        while len(self._scenes) > self._most:
            self._scenes.popitem(last=False)
        return scene, located

    def clear(self) -> None:
        """Forget everything."""
        self._scenes.clear()


def _gathering(
    positions: Vectors, cell: Matrix, periodic: Mask, reach: float
) -> tuple[Vectors, Mask]:
    """By how many lattice vectors to move each atom back, and which axes then still matter.

    An axis along which the atoms leave a gap wider than `reach` is opened there.
    """
    turns = np.zeros_like(positions)
    still = periodic.copy()
    if not periodic.any():
        return turns, still
    inverse = np.linalg.inv(_completed(cell, periodic))
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    fractions = positions @ inverse
    for axis in np.flatnonzero(periodic):
        inside = np.sort(fractions[:, axis] - np.floor(fractions[:, axis]))
        gaps = np.diff(inside, append=inside[0] + 1.0)
        widest = int(gaps.argmax())
        start = 0.0
        if gaps[widest] * heights[axis] > reach:
            # cut in the middle of the gap: no atom is near enough to end up on the wrong side
            start = inside[widest] + 0.5 * gaps[widest]
            still[axis] = False
        turns[:, axis] = np.floor(fractions[:, axis] - start)
    return turns, still


def _open_pairs(home: Vectors, reach: float) -> Pairs:
    half = cKDTree(home).query_pairs(reach, output_type="ndarray")
    sender = np.concatenate((half[:, 0], half[:, 1])).astype(np.intp)
    receiver = np.concatenate((half[:, 1], half[:, 0])).astype(np.intp)
    return Pairs(sender, receiver, np.zeros((len(sender), 3)), home)


def _completed(cell: Matrix, periodic: Mask) -> Matrix:
    """The cell with unit vectors normal to the periodic axes in place of the open ones."""
    whole = np.array(cell, dtype=np.float64)
    if not periodic.all():
        rows = whole[periodic]
        whole[~periodic] = np.linalg.svd(rows)[2][len(rows) :] if len(rows) else np.eye(3)
    return whole


def _box(home: Vectors, cell: Matrix, periodic: Mask) -> tuple[Matrix, NDArray[np.float64]]:
    """The cell and its corner, shrink-wrapped around the atoms along open axes."""
    box = _completed(cell, periodic)
    along = home @ np.linalg.inv(box)
    low = along.min(axis=0) - _MARGIN
    extent = along.max(axis=0) + _MARGIN - low
    wrapped = np.where(periodic[:, None], box, box * extent[:, None])
    return wrapped, np.where(periodic, 0.0, low) @ box
