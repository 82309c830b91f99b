"""What a model is to the base: site energies as a function of the edges of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from mixserver_worker.engines.torch.graph import Graph
from mixserver_worker.engines.torch.whole import Whole


@dataclass(frozen=True, slots=True)
class Prefix:
    """What one layer of a model works on: the first atoms and edges of a graph."""

    senders: int
    """Number of atoms whose features the layer reads, receivers among them."""
    receivers: int
    """Number of atoms whose features are needed after the layer."""
    edges: int
    """Number of edges; all of a receiver's are among them."""


@dataclass(frozen=True, slots=True)
class Edges:
    """The edges of a graph within the cutoff, at the positions of one evaluation."""

    vectors: torch.Tensor
    """(K, 3) Å in the model's precision, from the sender to the receiver. The leaf with respect to
    which the energy is differentiated."""
    ends: torch.Tensor
    """(2, K) senders, receivers: rows of the graph's atoms. Receivers ascend."""
    counts: tuple[int, ...]
    """(L,) number of edges whose receiver is within 0, 1, ... L - 1 edges of a site."""
    atoms: tuple[int, ...]
    """(L + 1,) number of atoms within 0, 1, ... L edges of a site. The first are the sites."""
    whole: Whole | None = None
    """Positions and cell, for models that look at them too (`TorchEngine`, `distance`)."""

    def prefix(self, layer: int) -> Prefix:
        """Atoms and edges of layer 0, 1, ... L - 1: each needs fewer than the one before."""
        left = len(self.counts) - 1 - layer
        return Prefix(self.atoms[left + 1], self.atoms[left], self.counts[left])


class SiteModel(Protocol):
    """A model whose site energies depend on edges up to a cutoff, through one layer or several."""

    @property
    def cutoff(self) -> float:
        """Distance (Å) up to which one layer looks."""

    @property
    def layers(self) -> int:
        """Layers L, at least 1: a site energy depends on atoms up to L edges away."""

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that it knows."""

    @property
    def isolated(self) -> Mapping[int, float]:
        """Energies (eV) by atomic number, added to the site energies in float64; else 0.

        Energies of isolated atoms are thousands of eV, of which float32 would lose the digits.
        """

    def prepare(self, graph: Graph, numbers: torch.Tensor) -> Any:
        """Whatever depends on the graph and the elements alone. Called once per neighbour list.

        Args:
            graph: with the M atoms and the edges that the sites depend on.
            numbers: (M,) int64 atomic numbers in the graph's order, on the device.
        """

    def site_energies(self, prepared: Any, edges: Edges) -> torch.Tensor:
        """(n_0,) eV of the sites, the first atoms of the graph, without `isolated`.

        Smooth in `edges.vectors`, also where an edge of the length of the cutoff appears.

        Args:
            prepared: what `prepare` returned for this graph.
            edges: its edges now.
        """
