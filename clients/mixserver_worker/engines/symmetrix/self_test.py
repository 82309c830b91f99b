"""Weighted sites of a column of atoms by mace itself, with which the engine compares its own.

The reference is mace's own module in float64, evaluated on all atoms and differentiated by torch;
it knows neither stages nor pruning nor splines. The column is longer than what the sites at its end
depend on, so that both layers are pruned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from mixserver.core.arrays import Matrix, Numbers, Scalars, Vectors
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.symmetrix.conversion import isolated_atoms

_SPACING: Final = 0.42
"""Of the cutoff, between neighbours: messages reach two atoms along the column."""
_LENGTH: Final = 7
_WEIGHTS: Final = (1.0, 0.6, -0.2, 0.05, 0.8)
_AGREEMENT: Final = {"float64": 2e-5, "float32": 5e-4}
"""Of energies (eV) and forces (eV/Å), relative to `scale`: splines, rounding."""
_SMALLEST: Final = 0.05
"""eV/Å; smaller forces are compared as if the largest were of this size."""


@dataclass(frozen=True, slots=True)
class WeightedReference:
    """A column of atoms without a cell, and mace's results for it."""

    numbers: Numbers
    positions: Vectors
    weight: Scalars
    """(n,) most of them 0."""
    energies: Scalars
    """(n,) eV, unweighted."""
    forces: Vectors
    """(n, 3) eV/Å of the weighted energy."""
    scale: float
    """The largest force (eV/Å), or a tenth of the largest interaction energy (eV)."""

    @property
    def virial(self) -> Matrix:
        """(3, 3) eV: without a cell, it follows from the forces."""
        virial: Matrix = self.positions.T @ self.forces
        return virial

    def difference(self, got: EngineResult, dtype: str) -> str:
        """What differs, for a message; "" if nothing does.

        Args:
            got: with site energies, of which those with weight are compared.
            dtype: precision of these results.
        """
        if got.energies is None:
            return "there are no site energies"
        sites = self.weight != 0.0
        extent = float(np.abs(self.positions).max())
        kind = "of equal weight" if sites.all() else "with weights, pruned"
        for what, mine, theirs, room in (
            ("site energies", got.energies[sites], self.energies[sites], 1.0),
            ("forces", got.forces, self.forces, 1.0),
            ("virial", got.virial, self.virial, extent),
        ):
            worst = float(np.abs(mine - theirs).max())
            if not worst <= _AGREEMENT[dtype] * self.scale * room:
                return f"{what} of {len(sites)} atoms {kind} differ by {worst:.2g} (eV, Å)"
        return ""


def weighted_reference(module: Any, head: int, *, uniform: bool = False) -> WeightedReference:
    """Evaluate mace's own module, as it was read.

    Args:
        module: a `mace.modules.MACE` or `ScaleShiftMACE`; turned to float64 on the CPU.
        head: index of the head.
        uniform: weight 1 on all sites instead of a few weighted ones.
    """
    module = module.to(device="cpu", dtype=torch.float64).eval().requires_grad_(False)
    species = [int(z) for z in module.atomic_numbers]
    dice = np.random.default_rng(12)
    shape = (_LENGTH, 2, 2)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    cutoff = float(module.r_max)
    positions = _SPACING * cutoff * (grid + dice.uniform(-0.1, 0.1, grid.shape))
    chosen = sorted({species[0], species[len(species) // 2], species[-1]})
    numbers = dice.permutation(np.resize(chosen, len(grid))).astype(np.int32)
    weight = np.ones(len(grid)) if uniform else np.zeros(len(grid))
    if not uniform:
        weight[: len(_WEIGHTS)] = _WEIGHTS
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    near = (distance < cutoff) & ~np.eye(len(grid), dtype=bool)
    coordinates = torch.from_numpy(positions).requires_grad_(True)
    energies = _node_energies(module, head, coordinates, [species.index(z) for z in numbers], near)
    (slope,) = torch.autograd.grad((torch.from_numpy(weight) * energies).sum(), coordinates)
    found = energies.detach().numpy().copy()
    alone = isolated_atoms(module, head, tuple(species))
    interaction = found - alone[[species.index(z) for z in numbers]]
    scale = max(_SMALLEST, float(slope.abs().max()), 0.1 * float(np.abs(interaction).max()))
    return WeightedReference(numbers, positions, weight, found, -slope.numpy(), scale)


def _node_energies(
    module: Any, head: int, coordinates: torch.Tensor, places: list[int], near: Any
) -> torch.Tensor:
    count = len(places)
    sender, receiver = np.nonzero(near)
    shifts = torch.zeros(len(sender), 3, dtype=torch.float64)
    elements = torch.tensor(places)
    out = module(
        {
            "positions": coordinates,
            "node_attrs": torch.nn.functional.one_hot(
                elements, len(module.atomic_numbers)
            ).double(),
            "edge_index": torch.from_numpy(np.stack((sender, receiver))),
            "shifts": shifts,
            "unit_shifts": shifts,
            "cell": 100.0 * torch.eye(3, dtype=torch.float64),
            "batch": torch.zeros(count, dtype=torch.int64),
            "ptr": torch.tensor([0, count]),
            "head": torch.tensor([head]),
        },
        training=True,  # keep the graph, to differentiate it here
        compute_force=False,
    )
    energies: torch.Tensor = out["node_energy"]
    return energies
