"""Single sites and their neighbours, each as a cluster of its own, in one LAMMPS instance.

The energy of such a cluster, in which only the central atom counts, is that atom's site energy, and
its forces are that energy's gradient. Clusters are apart and do not interact, so one evaluation
gives the gradients of all sites one by one, and any weights can be applied to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Indices, Mask, Matrix, Scalars, Vectors
from mixserver.core.cell import complete_cell, inverse_cell
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.instance import LammpsInstance
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.weighting.visibility import atoms_near
from mixserver_worker.engines.lammps.weighting.weighted_instance import site_energies_of
from mixserver_worker.engines.neighbours import neighbour_list

_MARGIN: Final = 0.6
"""Å beyond the cutoff within which atoms belong to a cluster, so that it holds for many steps."""
_IN_ADVANCE: Final = 3.0
"""Å. Atoms this close to a new site get clusters, too, once sites have changed."""
_MOST_ATOMS: Final = 200_000
"""In one instance."""
_FEW: Final = 64
"""Clusters of atoms that are no longer sites are kept up to this number and that of sites."""

Make = Callable[[RankJob, NDArray[np.bool_]], LammpsInstance]
"""Makes an instance of atoms, some of which count, for `Environments`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Some clusters in a box of their own."""

    site: Indices
    """(m,) the central atom of the cluster to which each row belongs; its own row is the first."""
    atom: Indices
    """(m,) the atom that each row is an image of."""
    image: NDArray[np.int32]
    """(m, 3) lattice vectors by which the image is displaced."""
    origin: Vectors
    """(m, 3) Å, where the central atom of the cluster is."""
    box: Matrix
    """(3, 3) Å."""

    def job(self, job: RankJob) -> RankJob:
        """The same evaluation of the clusters."""
        apart = job.positions[self.atom] - job.positions[self.site]
        inside = self.origin + apart + self.image @ complete_cell(job.cell, job.pbc)
        return RankJob(0, inside, job.numbers[self.atom], self.box, (True,) * 3, energies=True)


class Environments:
    """Clusters around sites of one set of atoms.

    Args:
        make: makes the instances.
        known: (n,) which atoms the potential knows.
        cutoff: Å.
        skin: Å, of the instances.
        ranks: all of them make the same calls.
    """

    def __init__(self, make: Make, known: Mask, cutoff: float, skin: float, ranks: Ranks) -> None:
        self._make, self._known, self._ranks = make, known, ranks
        self._cutoff, self._skin = cutoff, skin
        self.clusters: list[tuple[_Layout, LammpsInstance]] = []
        self._sites: Mask = np.zeros(0, np.bool_)
        self._positions: Vectors = np.zeros((0, 3))
        self._cell: Matrix = np.eye(3)

    def close(self) -> None:
        """End all LAMMPS instances."""
        old, self.clusters = self.clusters, []
        for _, instance in old:
            instance.close()

    def evaluate(self, job: RankJob, weights: Scalars) -> EngineResult:
        """The weighted sum over sites, complete on rank 0 only.

        Args:
            job: positions and cell.
            weights: (n,), other than 0 for sites.

        Raises:
            BadInput, LammpsError: as of `LammpsInstance.evaluate`.
        """
        n = len(weights)
        sites = (weights != 0.0) & self._known
        if not sites.any():
            return EngineResult(0.0, np.zeros((n, 3)), np.zeros((3, 3)), np.zeros(n))
        if not self.clusters or not self._sufficient(job, sites):
            self._find(job, sites)
        energies, forces, virial = np.zeros(n), np.zeros((n, 3)), np.zeros((3, 3))
        for layout, instance in self.clusters:
            inside = layout.job(job)
            result = instance.evaluate(inside)
            force = result.forces * weights[layout.site][:, None]
            energies += np.bincount(layout.site, site_energies_of(result), n)
            for axis in range(3):
                forces[:, axis] += np.bincount(layout.atom, force[:, axis], n)
            virial += (inside.positions - layout.origin).T @ force
        energies[~sites] = 0.0
        return EngineResult(float(weights @ energies), forces, 0.5 * (virial + virial.T), energies)

    def _sufficient(self, job: RankJob, sites: Mask) -> bool:
        """Whether the clusters are those of all sites, with all neighbours, and not many more."""
        if (sites & ~self._sites).any():
            return False
        if np.count_nonzero(self._sites) > 3 * np.count_nonzero(sites) + _FEW:
            return False
        strain = inverse_cell(self._cell) @ complete_cell(job.cell, job.pbc)
        moved = np.sqrt(
            np.square(job.positions - self._positions @ strain).sum(axis=1).max(initial=0.0)
        )
        size = float(np.linalg.norm(strain - np.eye(3), 2))
        return bool(2.0 * moved + size * (self._cutoff + _MARGIN) <= 0.9 * _MARGIN)

    def _find(self, job: RankJob, sites: Mask) -> None:
        """Make the clusters of these sites."""
        new = bool(self.clusters) and bool((sites & ~self._sites).any())
        self.close()
        reach = self._cutoff + _MARGIN
        if new:
            around = np.flatnonzero(self._known & ~sites)
            sites = sites.copy()
            sites[atoms_near(job, sites, around, _IN_ADVANCE)] = True
        candidates = np.flatnonzero(self._known)
        members = candidates[
            np.isin(candidates, atoms_near(job, sites, candidates, reach)) | sites[candidates]
        ]
        positions = job.positions[members]
        pairs = neighbour_list(positions, job.cell, job.pbc, reach)
        full = complete_cell(job.cell, job.pbc)
        central = sites[members][pairs.first]
        first, second = pairs.first[central], pairs.second[central]
        steps = pairs.vector[central] - (positions[second] - positions[first])
        image = np.rint(steps @ inverse_cell(full)).astype(np.int32)
        # Each cluster begins with its central atom.
        own = np.flatnonzero(sites)
        site = np.concatenate([own, members[first]])
        order = np.argsort(site, kind="stable")
        site = site[order]
        atom = np.concatenate([own, members[second]])[order]
        image = np.concatenate([np.zeros((len(own), 3), np.int32), image])[order]
        for start, end in _parts(site):
            layout = self._layout(site[start:end], atom[start:end], image[start:end])
            central = np.diff(layout.site, prepend=-1) > 0
            self.clusters.append((layout, self._make(layout.job(job), central)))
        self._sites, self._positions, self._cell = sites, job.positions.copy(), full

    def _layout(self, site: Indices, atom: Indices, image: NDArray[np.int32]) -> _Layout:
        """Put clusters onto a grid, so far apart that no central atom sees another cluster."""
        _, which = np.unique(site, return_inverse=True)
        side = int(np.ceil((which[-1] + 1.0) ** (1.0 / 3.0) - 1e-9))
        spacing = 2.0 * (self._cutoff + _MARGIN) + self._skin + 1.0
        grid = np.stack(np.unravel_index(which, (side, side, side)), -1).astype(np.float64)
        origin: Vectors = spacing * (grid + 0.5)
        return _Layout(site, atom, image, origin, np.eye(3) * spacing * side)


def _parts(site: Indices) -> list[tuple[int, int]]:
    """First and last row (exclusive) of whole clusters with not too many atoms together."""
    starts = np.flatnonzero(np.diff(site, prepend=-1))
    ends = np.append(starts[1:], len(site))
    parts: list[tuple[int, int]] = []
    begin = 0
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - begin > _MOST_ATOMS and start > begin:
            parts.append((begin, start))
            begin = start
    return [*parts, (begin, len(site))]
