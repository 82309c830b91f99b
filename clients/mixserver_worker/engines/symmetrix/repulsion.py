"""Weighted pair repulsion (ZBL) of a MACE model, by the model's own module.

symmetrix-xl has ZBL in its complete evaluation, but not as a stage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mixserver.core.arrays import Scalars, Vectors
from mixserver_worker.engines.symmetrix.active_edges import ActiveEdges


class Repulsion:
    """Half of each pair's repulsion belongs to each of the two sites.

    Args:
        module: a MACE module with `pair_repulsion_fn`.
        head: index of the head, for the scale.
        species: atomic numbers of the types of edges.
    """

    def __init__(self, module: Any, head: int, species: tuple[int, ...]) -> None:
        self._pairs = module.pair_repulsion_fn.double()
        self._numbers = module.atomic_numbers
        self._scale = float(module.scale_shift.scale.reshape(-1)[head])
        radii = self._pairs.covalent_radii[self._numbers]
        self._reach = 2.0 * float(radii.max())
        known = [int(z) for z in self._numbers]
        self._elements = torch.eye(len(known), dtype=torch.float64)[
            [known.index(z) for z in species]
        ]

    def evaluate(self, edges: ActiveEdges, weight: Scalars) -> tuple[Scalars, Vectors]:
        """Energies of the sites and the gradient of their weighted sum, as `StagedModel.evaluate`.

        Args:
            edges: within the cutoff.
            weight: (sites,) of the sites.
        """
        slope = np.zeros_like(edges.vector)
        near = np.flatnonzero(edges.length[: edges.site_edges] < self._reach)
        ends = np.stack((edges.sender[near], edges.receiver[near])).astype(np.int64)
        length = torch.from_numpy(edges.length[near]).requires_grad_(True)
        energies = self._scale * self._pairs(
            length[:, None],
            self._elements[torch.from_numpy(edges.types.astype(np.int64))],
            torch.from_numpy(ends),
            self._numbers,
        )
        energies = energies[: edges.sites]
        total = (torch.from_numpy(weight) * energies).sum()
        (along,) = torch.autograd.grad(total, length)
        slope[near] = -(along.numpy() / edges.length[near])[:, None] * edges.vector[near]
        return energies.detach().numpy(), slope
