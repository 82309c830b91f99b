"""Weighted site energies of a torch model and their gradient.

E = sum_i w_i e_i is differentiated with respect to the edge vectors, which are formed and summed in
float64 whatever the model's precision; forces and the virial are sums over edges. A graph has only
the atoms and edges that sites with weight depend on, see `graph.prune`. This is exact, because the
rest influences no site with weight. Units: Å, eV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mixserver.core.arrays import Block, Groups, Numbers, Scalars, Vectors
from mixserver_worker.engines.torch.edges import find_edges
from mixserver_worker.engines.torch.graph import Graph, prune
from mixserver_worker.engines.torch.graph_engine import WeightedEnergy
from mixserver_worker.engines.torch.site_model import Edges, SiteModel
from mixserver_worker.engines.torch.whole import Lattice, add_gradient, whole_of

_OVERLAP: Final = 1e-3
"""Å. Closer atoms overlap; the direction between them is undefined."""


class OverlapError(ValueError):
    """Two atoms overlap."""


@dataclass(frozen=True, slots=True)
class DeviceGraph:
    """A graph, and all data that depend only on it and the elements, on the device."""

    atoms: tuple[int, ...]
    edges: torch.Tensor
    """(L,)"""
    ends: torch.Tensor
    """(2, E) senders, receivers."""
    shift: torch.Tensor
    """(E, 3) float64 Å."""
    isolated: torch.Tensor
    """(n_0,) float64 eV, energies of the isolated atoms."""
    prepared: Any
    """Of the model."""
    lattice: Lattice | None = None
    """For a model that looks at positions and cell, too."""


def to_device(
    model: SiteModel,
    graph: Graph,
    numbers: Numbers,
    device: torch.device,
    lattice: Lattice | None = None,
) -> DeviceGraph:
    """Copy a graph to the device, and let the model prepare it.

    Args:
        model: the model.
        graph: pruned for this model's number of layers.
        numbers: (n,) atomic numbers of all atoms of the job, each known to the model.
        device: of torch.
        lattice: of the graph, for a model that looks at positions and cell, too.
    """
    kinds = numbers[graph.order].astype(np.int64)
    present, place = np.unique(kinds[: graph.atoms[0]], return_inverse=True)
    isolated = np.array([model.isolated.get(z, 0.0) for z in present.tolist()], dtype=np.float64)
    with torch.no_grad():
        prepared = model.prepare(graph, _tensor(kinds, device))
    return DeviceGraph(
        atoms=graph.atoms,
        edges=_tensor(np.array(graph.edges), device),
        ends=_tensor(np.stack((graph.sender, graph.receiver)), device),
        shift=_tensor(graph.shift, device),
        isolated=_tensor(isolated[place], device),
        prepared=prepared,
        lattice=lattice,
    )


def weighted_energy(
    model: SiteModel,
    graph: DeviceGraph,
    positions: Vectors,
    weights: Scalars,
    dtype: torch.dtype,
    *,
    replica: Groups | None = None,
    replicas: int = 1,
) -> WeightedEnergy:
    """Evaluate sum_i w_i e_i and its gradient.

    Args:
        model: the model.
        graph: the graph.
        positions: (M, 3) Å in the graph's order.
        weights: (n_0,) of the graph's sites.
        dtype: precision in which the model takes edge vectors.
        replica: (M,) which of several independent structures an atom belongs to; None for one.
        replicas: R, how many there are.

    Raises:
        OverlapError: two atoms overlap; its arguments are their places in the graph's order.
        RuntimeError: the model's site energies do not depend on the edges, or have another shape.
    """
    device = graph.ends.device
    coordinates = _tensor(positions, device)
    sender, receiver = graph.ends
    exact = coordinates[receiver] - coordinates[sender] + graph.shift
    squared = exact.square().sum(dim=1)
    kept = (squared < model.cutoff**2).nonzero().squeeze(1)
    if len(kept) and float(squared.min()) < _OVERLAP**2:
        worst = int(squared.argmin())
        raise OverlapError(int(sender[worst]), int(receiver[worst]))
    exact, ends = exact[kept], graph.ends[:, kept]
    counts: list[int] = torch.searchsorted(kept, graph.edges).tolist()
    vectors = exact.to(dtype).detach().requires_grad_(True)
    whole = None if graph.lattice is None else whole_of(graph.lattice, positions, kept, dtype)
    edges = Edges(vectors, ends, tuple(counts), graph.atoms, whole)
    sites = model.site_energies(graph.prepared, edges)
    weight = _tensor(weights, device)
    if sites.shape != weight.shape:
        raise RuntimeError(f"site energies of shape {tuple(sites.shape)} for {len(weight)} sites")
    leaves = [vectors] if whole is None else [vectors, whole.positions, whole.cell]
    slopes: tuple[torch.Tensor | None, ...] = (None,) * len(leaves)
    if sites.requires_grad:
        slopes = torch.autograd.grad(sites, leaves, weight.to(sites.dtype), allow_unused=True)
    if counts[0] and not any(slope is not None for slope in slopes):
        raise RuntimeError("the site energies do not depend on the edges, so forces are unknown")
    energies = sites.detach().double() + graph.isolated
    forces = torch.zeros_like(coordinates)
    virial = torch.zeros(3, 3, dtype=torch.float64, device=device)
    slope = slopes[0]
    if slope is not None:
        slope = slope.double()
        forces.scatter_add_(0, ends[0, :, None].expand_as(slope), slope)
        forces.scatter_add_(0, ends[1, :, None].expand_as(slope), -slope)
        virial = -(slope.T @ exact)
    if whole is not None:
        add_gradient(whole, (slopes[1], slopes[2]), forces, virial)
    virial = 0.5 * (virial + virial.T)
    virials = None if replica is None else _virials(slope, exact, ends[0], replica, replicas)
    return WeightedEnergy(
        energy=float((weight * energies).sum()),
        forces=forces.cpu().numpy(),
        virial=virial.cpu().numpy(),
        energies=energies.cpu().numpy(),
        virials=virials,
    )


def _virials(
    slope: torch.Tensor | None,
    vectors: torch.Tensor,
    sender: torch.Tensor,
    replica: Groups,
    count: int,
) -> Block:
    """(R, 3, 3) eV, from the gradient on the edges of all replicas together."""
    total = torch.zeros(count, 9, dtype=torch.float64, device=vectors.device)
    if slope is not None:
        of_edge = _tensor(replica.astype(np.int64), vectors.device)[sender]
        products = (slope[:, :, None] * vectors[:, None, :]).reshape(-1, 9)
        total.index_add_(0, of_edge, products)
    each: Block = -total.reshape(count, 3, 3).cpu().numpy()
    return 0.5 * (each + each.transpose(0, 2, 1))


def cluster_energy(
    model: SiteModel,
    positions: Vectors,
    numbers: Numbers,
    device: torch.device,
    dtype: torch.dtype,
) -> WeightedEnergy:
    """Evaluate all sites of free atoms once, in their own order: for tests at load.

    Args:
        model: the model.
        positions: (n, 3) Å.
        numbers: (n,) atomic numbers.
        device: of torch.
        dtype: precision in which the model takes edge vectors.
    """
    free = find_edges(positions, np.zeros((3, 3)), (False, False, False), model.cutoff)
    graph = prune(free, np.ones(len(positions), dtype=bool), model.layers)
    prepared = to_device(model, graph, numbers, device)
    return weighted_energy(model, prepared, positions, np.ones(len(positions)), dtype)


def _tensor(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
