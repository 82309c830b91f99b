"""The pairwise remainder of a weighted potential in compiled code, from the tables of `eam_tables`.

Half of the energy of a pair belongs to each of its atoms; forces are the exact slope of the tables'
cubics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mixserver.core.arrays import Numbers, Scalars
from mixserver_worker.engines.lammps.compiled.atoms import Tally, elements_of
from mixserver_worker.engines.lammps.compiled.team import Team, shares
from mixserver_worker.engines.lammps.compiled.verlet import Candidates, VerletList, part_of
from mixserver_worker.engines.lammps.mpi import RankJob
from mixserver_worker.engines.lammps.weighting.eam_tables import EamTables, curve
from mixserver_worker.engines.lammps.weighting.weighted_instance import weights_of

_IMPOSSIBLE: Final = 1e20
"""eV: only the walls at the inner ends of the tables exceed it."""


class _Cubics:
    """One set of tables as coefficients, for elements numbered by their place in it."""

    def __init__(self, tables: EamTables, numbers: Sequence[int], atoms: Numbers) -> None:
        count = len(tables.types)
        size = len(tables.tables[0][1])
        self.cutoff, self.step = tables.cutoff, tables.step
        self.of_pair: NDArray[np.int64] = np.full((count, count), -1)
        self.knots = np.zeros((len(tables.tables), size, 2))
        for at, (types, energies) in enumerate(tables.tables):
            one, other = (tables.types.index(type_) for type_ in types)
            self.of_pair[one, other] = self.of_pair[other, one] = at
            self.knots[at, :, 0] = energies
            self.knots[at, :, 1] = curve(energies, self.step).slopes * self.step
        self.elements = elements_of(atoms, [numbers[type_ - 1] for type_ in tables.types])


class CompiledPairs:
    """Tables of pairs for one set of atoms.

    Args:
        tables: at least one.
        numbers: (types,) atomic number of each of the potential's atom types.
        skin: Å, of the neighbour list.
        atoms: (n,) atomic numbers.
        part: which of several equal parts of the atoms to evaluate, and how many parts.
        team: evaluates them.
    """

    def __init__(
        self,
        tables: Sequence[EamTables],
        numbers: Sequence[int],
        skin: float,
        atoms: Numbers,
        part: tuple[int, int],
        team: Team,
    ) -> None:
        self._cubics = [_Cubics(one, numbers, atoms) for one in tables]
        self._part, self._team = part, team
        reach = max(one.cutoff for one in tables)
        self._list = VerletList(reach, skin, half=True, part=part, team=team)

    def tasks(self, job: RankJob) -> list[Callable[[Tally], bool]]:
        """What there is to add for these positions and weights of the same atoms.

        Each task returns False where two atoms are closer than the tables begin.
        """
        candidates = self._list.update(job.positions, job.cell, job.pbc)
        bounds = shares(*part_of(len(self._cubics[0].elements), self._part), self._team.tasks)
        return [
            partial(self._evaluate, candidates, low, high, weights_of(job))
            for low, high in pairwise(bounds.tolist())
        ]

    def _evaluate(
        self, candidates: Candidates, low: int, high: int, weights: Scalars, tally: Tally
    ) -> bool:
        for cubics in self._cubics:
            add_pairs(
                *candidates,
                low,
                high,
                cubics.elements,
                weights,
                cubics.of_pair,
                cubics.cutoff,
                cubics.step,
                cubics.knots,
                tally.energies,
                tally.forces,
                tally.virial,
            )
        return tally.is_below(_IMPOSSIBLE)


@njit(nogil=True, cache=True)
def add_pairs(  # type: ignore[no-untyped-def]
    points,
    origin,
    start,
    neighbour,
    low,
    high,
    elements,
    weights,
    of_pair,
    cutoff,
    step,
    knots,
    energies,
    forces,
    virial,
):
    """Add the pairs of some atoms with their neighbours.

    Args:
        points, origin, start, neighbour: `verlet.Candidates`, each pair once.
        low, high: first atom, and the one after the last.
        elements: (n,) of each atom; -1 for atoms without pairs.
        weights: (n,) site weights.
        of_pair: (elements, elements) table of a pair, -1 for none.
        cutoff: Å.
        step: Å between the knots; the first is at 0.
        knots: (tables, knots, 2) eV, energy and its slope times the step.
        energies: (n,) eV, site energies without weights, is added to.
        forces: (n, 3) eV/Å, is added to.
        virial: (3, 3) eV, is added to.
    """
    square, inverse = cutoff * cutoff, 1.0 / step
    most = 1
    for i in range(low, high):
        most = max(most, start[i + 1] - start[i])
    alike = of_pair.size == 1 and elements.min() == 0  # then no pair is left out
    vector, which = np.empty((3, most)), np.empty(most, np.int64)
    squared, table = np.empty(most), np.zeros(most, np.int64)
    energy, slope = np.empty(most), np.empty(most)
    xx = yy = zz = xy = xz = yz = 0.0
    for i in range(low, high):
        if elements[i] < 0:
            continue
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        count = 0
        for c in range(start[i], start[i + 1]):
            p = neighbour[c]
            dx, dy, dz = points[p, 0] - x, points[p, 1] - y, points[p, 2] - z
            r2 = dx * dx + dy * dy + dz * dz
            vector[0, count], vector[1, count], vector[2, count] = dx, dy, dz
            squared[count], which[count] = r2, origin[p]
            count += r2 < square  # without a branch, which would often be predicted wrongly
        kept = count if alike else 0
        for k in range(count - kept):
            j = which[k]
            if elements[j] < 0 or (weights[i] == 0.0 and weights[j] == 0.0):
                continue
            at = of_pair[elements[i], elements[j]]
            if at < 0:
                continue
            vector[0, kept], vector[1, kept] = vector[0, k], vector[1, k]
            vector[2, kept], squared[kept] = vector[2, k], squared[k]
            which[kept], table[kept] = j, at
            kept += 1
        for k in range(kept):
            place = np.sqrt(squared[k]) * inverse
            knot = int(place)
            t = place - knot
            c0, c1 = knots[table[k], knot, 0], knots[table[k], knot, 1]
            rise, d1 = knots[table[k], knot + 1, 0] - c0, knots[table[k], knot + 1, 1]
            c2, c3 = 3.0 * rise - 2.0 * c1 - d1, c1 + d1 - 2.0 * rise
            # an atom and its own image are found twice
            share = 0.5 if which[k] == i else 1.0
            energy[k] = 0.5 * share * (c0 + t * (c1 + t * (c2 + t * c3)))
            # slope / r: place = r / step
            change = (c1 + t * (2.0 * c2 + 3.0 * t * c3)) * inverse * inverse / place
            slope[k] = share * change
        fx = fy = fz = e = 0.0
        for k in range(kept):
            j = which[k]
            e += energy[k]
            energies[j] += energy[k]
            g = 0.5 * (weights[i] + weights[j]) * slope[k]
            dx, dy, dz = vector[0, k], vector[1, k], vector[2, k]
            gx, gy, gz = g * dx, g * dy, g * dz
            fx += gx
            fy += gy
            fz += gz
            forces[j, 0] -= gx
            forces[j, 1] -= gy
            forces[j, 2] -= gz
            xx += dx * gx
            yy += dy * gy
            zz += dz * gz
            xy += dx * gy
            xz += dx * gz
            yz += dy * gz
        energies[i] += e
        forces[i, 0] += fx
        forces[i, 1] += fy
        forces[i, 2] += fz
    virial -= np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
