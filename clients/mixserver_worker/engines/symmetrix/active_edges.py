"""The atoms and edges of one evaluation, in the order that the stages of symmetrix-xl need.

Graphs hold for several steps, because their edges reach beyond the cutoff by a skin. Here the edges
beyond the cutoff are left out, and with them atoms that no site depends on at this step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Indices, Scalars, Vectors
from mixserver_worker.engines.torch.graph import Graph

Types = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ActiveEdges:
    """Edges within the cutoff whose receiver a site depends on."""

    atoms: Indices
    """(M,) positions in the graph's order: sites, then their senders, then the rest."""
    sites: int
    receivers: int
    """Number of sites and their senders; only these receive messages."""
    types: Types
    """(M,) of the model."""
    count: Types
    """(receivers,) edges of each receiver."""
    sender: Types
    """(E,) positions in `atoms`, sorted by receiver."""
    sender_types: Types
    """(E,)"""
    receiver: Indices
    """(E,) positions in `atoms`, ascending."""
    vector: Vectors
    """(E, 3) Å, from the receiver to (the image of) the sender."""
    length: Scalars
    """(E,) Å."""
    site_edges: int
    """Number of edges whose receiver is a site."""


def active_edges(graph: Graph, positions: Vectors, types: Types, cutoff: float) -> ActiveEdges:
    """Select edges within the cutoff.

    Args:
        graph: pruned for two layers.
        positions: (M, 3) Å, in the graph's order.
        types: (M,) of the model, in the graph's order.
        cutoff: Å.
    """
    vector = positions[graph.sender] - positions[graph.receiver]
    vector -= graph.shift
    squared = np.einsum("ij,ij->i", vector, vector)
    near = np.flatnonzero(squared < cutoff * cutoff)
    sender, receiver = graph.sender[near], graph.receiver[near]
    sites = graph.atoms[0]
    needed = np.zeros(len(positions), np.bool_)
    needed[:sites] = True
    needed[sender[: np.searchsorted(receiver, sites)]] = True
    kept = np.flatnonzero(needed[receiver])
    if len(kept) < len(near):
        near, sender, receiver = near[kept], sender[kept], receiver[kept]
    atoms = np.concatenate((np.flatnonzero(needed), np.flatnonzero(~needed)))
    place = np.empty(len(atoms), np.intp)
    place[atoms] = np.arange(len(atoms))
    receivers = int(np.count_nonzero(needed))
    receiver = place[receiver]  # still ascending: needed atoms keep their order
    return ActiveEdges(
        atoms=atoms,
        sites=sites,
        receivers=receivers,
        types=types[atoms],
        count=np.bincount(receiver, minlength=receivers).astype(np.int32),
        sender=place[sender].astype(np.int32),
        sender_types=types[sender],
        receiver=receiver,
        vector=vector[near],
        length=np.sqrt(squared[near]),
        site_edges=int(np.searchsorted(receiver, sites)),
    )
