"""Compares site energies and forces with the model's own when a package is loaded.

The chain of a model is evaluated by modules, on edges instead of positions, and layers only where
they are needed. Whether that is what the model computes is tested on a chain of atoms longer than
the receptive field, with few weighted sites at its end, so that atoms and edges are left out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from mixserver.core.arrays import Indices, Mask, Scalars
from mixserver_worker.engines.nequip.package import Package, quiet
from mixserver_worker.engines.nequip.site_energies import NequipSites, double_by_default
from mixserver_worker.engines.torch.edges import EdgeList, find_edges
from mixserver_worker.engines.torch.graph import prune
from mixserver_worker.engines.torch.weighted_energy import to_device, weighted_energy

_SPACING: Final = 0.42
"""Of the cutoff, along the chain: an atom has about four neighbours."""
_AGREEMENT: Final = {"float64": 1e-9, "float32": 1e-3}
"""Of energies and forces, relative to the largest force or 1 eV/Å."""


def difference(package: Package, sites: NequipSites, device: torch.device) -> str:
    """What differs from the model's own result, for a message; "" if nothing does."""
    count = 3 * sites.layers + 7
    dice = np.random.default_rng(3)
    along = _SPACING * package.cutoff * np.arange(count)
    positions = dice.uniform(0.0, 0.3 * package.cutoff, (count, 3))
    positions[:, 0] = along + 0.2 * positions[:, 0]
    kinds = np.arange(count) % len(package.symbols)
    numbers = np.array(sites.species, dtype=np.int32)[kinds]
    edges = find_edges(positions, np.zeros((3, 3)), (False,) * 3, package.cutoff)
    few = np.zeros(count)
    few[:2] = 0.3, 1.0
    for weight, active in ((np.ones(count), np.ones(count, bool)), (few, few > 0.0)):
        with quiet():
            energies, forces = _own(sites, edges, kinds, weight, device)
            graph = prune(edges, active, sites.layers)
            got = weighted_energy(
                sites,
                to_device(sites, graph, numbers, device),
                positions[graph.order],
                weight[graph.order[: graph.atoms[0]]],
                torch.float64,
            )
        mine = np.zeros((count, 3))
        mine[graph.order] = got.forces
        where = graph.order[: graph.atoms[0]]
        if problem := _compared(package, energies[where], got.energies, forces, mine, active):
            return problem
    return ""


def _own(
    sites: NequipSites, edges: EdgeList, kinds: Indices, weight: Scalars, device: torch.device
) -> tuple[Any, Any]:
    """Site energies of the whole model from positions, and -d(sum of w_i e_i)/dr."""
    receiver, sender = (torch.from_numpy(ends) for ends in (edges.receiver, edges.sender))
    positions = torch.from_numpy(edges.positions)
    types = torch.from_numpy(kinds)
    if sites.pair_cutoffs is not None:
        lengths = torch.linalg.vector_norm(positions[sender] - positions[receiver], dim=1)
        near = lengths <= sites.pair_cutoffs.cpu()[types[receiver], types[sender]]
        receiver, sender = receiver[near], sender[near]
    positions = positions.to(device).requires_grad_(True)
    data = {
        "pos": positions,
        "atom_types": types.to(device),
        "edge_index": torch.stack((receiver, sender)).to(device),
    }
    inner = sites.module.model
    while hasattr(inner, "func"):
        inner = inner.func
    with double_by_default():
        energies = inner(data)["atomic_energy"].squeeze(1)
    total = (torch.from_numpy(weight).to(device) * energies).sum()
    (slope,) = torch.autograd.grad(total, positions)
    return energies.detach().double().cpu().numpy(), -slope.cpu().numpy()


def _compared(
    package: Package, energies: Any, got: Any, forces: Any, mine: Any, active: Mask
) -> str:
    allowed = _AGREEMENT[package.dtype] * max(1.0, float(np.abs(forces).max()))
    for what, own, other, room in (
        ("site energies", energies, got, allowed + 1e-12 * float(np.abs(energies).max())),
        ("forces", forces, mine, allowed),
    ):
        worst = float(np.abs(own - other).max())
        if not worst <= room:
            which = "all" if active.all() else "two"
            return f"{what} of a chain of atoms with {which} sites differ by {worst:.2g} (eV, Å)"
    return ""
