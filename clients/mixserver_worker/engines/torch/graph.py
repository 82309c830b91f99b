"""The graph of an evaluation: atoms and edges that sites with weight depend on.

A layer of a model passes messages along one edge, so a site energy of an L-layer model depends on
atoms up to L edges away, and layer l (from 1) is needed only on atoms within L - l edges of a site
with weight. `prune` sorts atoms and edges by that distance; each layer then works on a prefix.
Graphs contain edges up to the cutoff plus a skin; `weighted_energy` selects those within it.
`within` is for models whose layers are not known, but how far they look. `graph_cache` keeps graphs
between evaluations, `edges` finds the edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from mixserver.core.arrays import Indices, Mask, Matrix, Vectors
from mixserver_worker.engines.neighbours import with_images, wrap
from mixserver_worker.engines.torch.edges import EdgeList


@dataclass(frozen=True, slots=True)
class Graph:
    """The atoms and edges that a set of sites depends on, nearest first."""

    order: Indices
    """(M,) indices of the atoms of the job, sorted by edges to the nearest site."""
    atoms: tuple[int, ...]
    """(L + 1,) number of atoms within 0, 1, ... L edges of a site."""
    sender: Indices
    """(E,) positions in `order`."""
    receiver: Indices
    """(E,) positions in `order`, ascending, and thus sorted by distance too."""
    shift: Vectors
    """(E, 3) Å."""
    edges: tuple[int, ...]
    """(L,) number of edges whose receiver is within 0, 1, ... L - 1 edges of a site."""


def prune(edges: EdgeList, active: Mask, layers: int) -> Graph:
    """Keep what sites depend on through `layers` layers, sorted by the number of edges to them.

    Args:
        edges: of all atoms of the job.
        active: (n,) sites with weight.
        layers: L.
    """
    level = np.where(active, 0, layers + 1)
    for hop in range(1, layers + 1):
        reached = edges.sender[level[edges.receiver] == hop - 1]
        level[reached] = np.minimum(level[reached], hop)
    return _graph(edges, level, layers, level[edges.receiver] < layers)


def within(
    edges: EdgeList, cell: Matrix, pbc: tuple[bool, bool, bool], active: Mask, distance: float
) -> Graph:
    """Keep the atoms within a distance of a site with weight, and all edges between them.

    Args:
        edges: of all atoms of the job.
        cell: (3, 3) Å, rows are lattice vectors.
        pbc: which axes are periodic.
        active: (n,) sites with weight.
        distance: Å.

    Returns:
        A graph of one layer.
    """
    inside = wrap(edges.positions, cell, pbc)
    sites, _ = with_images(inside[active], cell, pbc, distance)
    apart, _ = cKDTree(sites).query(inside, distance_upper_bound=distance)
    level = np.where(active, 0, np.where(np.isfinite(apart), 1, 2))
    return _graph(edges, level, 1, (level[edges.receiver] < 2) & (level[edges.sender] < 2))


def _graph(edges: EdgeList, level: Indices, layers: int, kept: Mask) -> Graph:
    """Sort what is kept by level; atoms of a level above `layers` are left out."""
    order = np.argsort(level, kind="stable")
    atoms = np.searchsorted(level[order], np.arange(layers + 1), side="right")
    order = order[: atoms[-1]]
    place = np.empty(len(level), dtype=np.intp)
    place[order] = np.arange(len(order))
    rows = np.flatnonzero(kept)
    receiver = place[edges.receiver[rows]]
    sender = place[edges.sender[rows]]
    by_receiver = np.argsort(receiver, kind="stable")
    receiver = receiver[by_receiver]
    return Graph(
        order=order,
        atoms=tuple(int(n) for n in atoms),
        sender=sender[by_receiver],
        receiver=receiver,
        shift=edges.shift[rows[by_receiver]],
        edges=tuple(int(n) for n in np.searchsorted(receiver, atoms[:layers])),
    )
