"""Compares site energies and forces with the model's own when it is loaded.

A chain of atoms longer than the interaction range, with few weighted sites at its end, tells
whether the model looks farther than it says, and whether it takes atoms, neighbours and sites as
the engine gives them. The model's own result comes from all atoms, with a gradient on positions
through metatomic's own registration of neighbour lists.

Finite differences tell whether the gradient is that of the energy. It is not if an extension was
loaded without its derivatives, which some register in Python: torch then warns and goes on.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from metatensor.torch import Labels, TensorBlock
from metatomic.torch import System, register_autograd_neighbors

from mixserver.core.arrays import Matrix, Numbers, Scalars, Vectors
from mixserver.core.finite_difference import STENCIL, central_slope
from mixserver_worker.engines.metatomic.model import quiet
from mixserver_worker.engines.metatomic.site_energies import MetatomicSites
from mixserver_worker.engines.torch.edges import find_edges
from mixserver_worker.engines.torch.graph import within
from mixserver_worker.engines.torch.graph_engine import WeightedEnergy
from mixserver_worker.engines.torch.weighted_energy import to_device, weighted_energy
from mixserver_worker.engines.torch.whole import lattice_of

_SPACING: Final = 2.1
"""Å, along the chain."""
_AGREEMENT: Final = {torch.float64: 1e-9, torch.float32: 1e-3}
"""Of energies and forces, relative to the largest force or 1 eV/Å."""
_STEP: Final = {torch.float64: 1e-3, torch.float32: 2e-2}
"""Å, of finite differences; a tenth of it as strain."""
_SLOPE: Final = {torch.float64: 1e-3, torch.float32: 1e-2}
"""Of finite differences, relative to the largest force or 0.1 eV/Å; rounding comes on top."""
_OPEN: Final = (False, False, False)
_PERIODIC: Final = (True, True, True)


def difference(sites: MetatomicSites, device: torch.device, dtype: torch.dtype) -> str:
    """What differs from the model's own result, for a message; "" if nothing does."""
    count = int(sites.distance / _SPACING) + 5
    dice = np.random.default_rng(3)
    positions = dice.uniform(0.0, 1.3, (count, 3))
    positions[:, 0] = _SPACING * np.arange(count) + 0.3 * positions[:, 0]
    numbers = np.array(sites.species, dtype=np.int32)[np.arange(count) % len(sites.species)]
    edges = find_edges(positions, np.zeros((3, 3)), _OPEN, sites.cutoff)
    few = np.zeros(count)
    few[:2] = 0.3, 1.0
    for which, weight in (("all", np.ones(count)), ("two", few)):
        graph = within(edges, np.zeros((3, 3)), _OPEN, weight > 0.0, sites.distance)
        chosen = graph.order[: graph.atoms[0]]
        with quiet():
            energies, forces = _own(sites, positions, numbers, weight, device, dtype)
            lattice = lattice_of(graph, np.zeros((3, 3)), _OPEN, device)
            got = weighted_energy(
                sites,
                to_device(sites, graph, numbers, device, lattice),
                positions[graph.order],
                weight[chosen],
                dtype,
            )
        mine = np.zeros((count, 3))
        mine[graph.order] = got.forces
        scale = max(1.0, float(np.abs(forces).max()), 1e-3 * float(np.abs(energies).max()))
        for what, own, other in (
            ("site energies", energies[chosen], got.energies),
            ("forces", forces, mine),
        ):
            worst = float(np.abs(own - other).max())
            if not worst <= _AGREEMENT[dtype] * scale:
                return (
                    f"{what} of a chain of atoms with {which} sites differ by {worst:.2g} (eV, Å). "
                    f"It states an interaction range of {sites.distance:.4g} Å"
                )
    return ""


def derivative_problem(sites: MetatomicSites, device: torch.device, dtype: torch.dtype) -> str:
    """Whether forces and virial are not the gradient of the energy, for a message; else ""."""
    dice = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    cell = 5.2 * np.eye(3) + dice.uniform(-0.2, 0.2, (3, 3))
    places = 0.5 * grid @ cell + dice.uniform(-0.25, 0.25, (8, 3))
    numbers = np.array(sites.species, dtype=np.int32)[np.arange(8) % len(sites.species)]
    weight = dice.uniform(0.2, 1.0, 8)
    direction = dice.normal(size=(8, 3))
    direction /= np.abs(direction).max()
    strain = dice.uniform(-1.0, 1.0, (3, 3))
    strain = strain + strain.T

    def at(positions: Vectors, cell: Matrix) -> WeightedEnergy:
        edges = find_edges(positions, cell, _PERIODIC, sites.cutoff)
        graph = within(edges, cell, _PERIODIC, np.ones(8, bool), sites.distance)
        lattice = lattice_of(graph, cell, _PERIODIC, device)
        on_device = to_device(sites, graph, numbers, device, lattice)
        return weighted_energy(sites, on_device, edges.positions, weight, dtype)

    with quiet():
        here = at(places, cell)
        step = _STEP[dtype]
        moved = [at(places + by * step * direction, cell).energy for by in STENCIL]
        tenth = 0.1 * step
        bent = [np.eye(3) + by * tenth * strain for by in STENCIL]
        strained = [at(places @ one, cell @ one).energy for one in bent]
    rounding = 8.0 * torch.finfo(dtype).eps * float(np.abs(here.energies).sum())
    scale = max(0.1, float(np.abs(here.forces).max()))
    for what, energies, got, h, unit, most in (
        ("forces", moved, -np.sum(here.forces * direction), step, "eV/Å", scale),
        ("virial", strained, -np.sum(here.virial * strain), tenth, "eV", 8.0 * scale),
    ):
        expected = central_slope(energies, h)
        if not abs(expected - got) <= _SLOPE[dtype] * most + rounding / h:
            return (
                f"its {what} are not the gradient of its energy ({got:.6g} instead of "
                f"{expected:.6g} {unit} by finite differences). If it needs an extension that "
                "registers derivatives in Python, install that and name its module, such as "
                "--import sphericart.torch"
            )
    return ""


def _own(
    sites: MetatomicSites,
    positions: Vectors,
    numbers: Numbers,
    weight: Scalars,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Any, Any]:
    """Site energies of the whole model from positions, and -d(sum of w_i e_i)/dr."""
    leaf = torch.from_numpy(positions).to(device, dtype).requires_grad_(True)
    system = System(
        torch.from_numpy(numbers).to(device),
        leaf,
        torch.zeros(3, 3, dtype=dtype, device=device),
        torch.zeros(3, dtype=torch.bool, device=device),
    )
    for options, cutoff in sites.requests:
        edges = find_edges(positions, np.zeros((3, 3)), _OPEN, cutoff)
        kept = slice(None) if options.full_list else edges.sender < edges.receiver
        pairs = np.stack((edges.sender, edges.receiver), axis=1)[kept]
        ends = torch.from_numpy(pairs).to(device)
        samples = torch.cat((ends, torch.zeros(len(pairs), 3, dtype=ends.dtype).to(device)), 1)
        names = ["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"]
        block = TensorBlock(
            (leaf.detach()[ends[:, 1]] - leaf.detach()[ends[:, 0]])[:, :, None],
            Labels(names, samples.to(torch.int32)),
            [Labels("xyz", torch.arange(3, device=device)[:, None])],
            Labels("distance", torch.zeros(1, 1, dtype=torch.int64, device=device)),
        )
        register_autograd_neighbors(system, block, check_consistency=True)
        system.add_neighbor_list(options, block)
    energies = sites.evaluate([system], None, len(numbers))
    total = (torch.from_numpy(weight).to(device, dtype) * energies).sum()
    (slope,) = torch.autograd.grad(total, leaf)
    return energies.detach().double().cpu().numpy(), -slope.double().cpu().numpy()
