"""A many-body model in NumPy, for tests: site energies that see their neighbours' neighbours.

.. math::
    e_i = \\sum_j \\rho_j \\phi(r_{ij}), \\quad \\rho_j = \\sqrt{1 + \\sum_k \\phi(r_{jk})}

Two layers of the cutoff, like a message-passing model: the receptive field is twice the cutoff.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from mixserver.core.arrays import Indices, Matrix, Scalars, Vectors
from mixserver.wire.worker import Evaluate, Result


@dataclass(frozen=True)
class ManyBody:
    """Evaluates weighted site energies with their exact gradient and virial."""

    cutoff: float = 3.0
    strength: float = 1.0

    @property
    def receptive_field(self) -> float:
        return 2.0 * self.cutoff

    def __call__(self, job: Evaluate) -> Result:
        n = len(job.positions)
        weight = np.ones(n) if job.weight is None else job.weight
        i, j, vector = _pairs(job.positions, job.cell, job.pbc, self.cutoff)
        length = np.linalg.norm(vector, axis=1)
        t = length / self.cutoff
        phi = self.strength * (1.0 - t) ** 3
        slope = -3.0 * self.strength * (1.0 - t) ** 2 / self.cutoff
        rho = np.sqrt(1.0 + _sum(i, phi, n))
        energies = _sum(i, rho[j] * phi, n)
        # dE/dr of each directed pair: through phi directly, and through the rho of either end
        by_rho = _sum(j, weight[i] * phi, n) * 0.5 / rho
        pull = (weight[i] * rho[j] + by_rho[i]) * slope
        gradient = pull[:, None] * vector / length[:, None]
        forces = np.stack([_sum(i, g, n) - _sum(j, g, n) for g in gradient.T], axis=1)
        return Result(
            job=job.job,
            energy=float(weight @ energies),
            forces=forces,
            virial=-(vector.T @ gradient),
            energies=energies,
        )


def _sum(index: Indices, values: Scalars, n: int) -> Scalars:
    return np.bincount(index, values, minlength=n).astype(np.float64)  # int if there is nothing


def _pairs(
    positions: Vectors, cell: Matrix, pbc: tuple[bool, bool, bool], cutoff: float
) -> tuple[Indices, Indices, Vectors]:
    """All directed pairs (i, j, r_j - r_i), found by repeating the cell."""
    n = len(positions)
    inverse = np.linalg.inv(cell)
    turns = np.floor(positions @ inverse) * pbc
    inside = positions - turns @ cell
    counts = [
        int(np.ceil(cutoff * np.linalg.norm(inverse[:, k]))) if pbc[k] else 0 for k in range(3)
    ]
    steps = np.stack(
        np.meshgrid(*(np.arange(-c, c + 1) for c in counts), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    everything = (inside + (steps @ cell)[:, None]).reshape(-1, 3)
    near = cKDTree(inside).sparse_distance_matrix(
        cKDTree(everything), cutoff, output_type="coo_matrix"
    )
    keep = near.data > 1e-9
    i, image = near.row[keep], near.col[keep]
    return i, image % n, everything[image] - inside[i]
