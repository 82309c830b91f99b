"""A fitted pair potential beside SNAP: B-splines of the distance, linear in their coefficients.

A pair costs a hundredth of a bispectrum, can have a long cutoff, and describes what a small 2J
cannot. Half of a pair's energy belongs to each atom, as in LAMMPS.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from ase.data import chemical_symbols
from scipy.interpolate import BSpline
from scipy.sparse import csr_array

from mixserver.core.arrays import Block, Indices, Scalars
from mixserver.core.frame import Topology
from mixserver.core.strain import COLUMNS, ROWS
from mixserver.distill.data.labels import Structure
from mixserver.geometry import neighbour_list

_DEGREE: Final = 5
"""The third derivative of cubic ones jumps, so that forces of LAMMPS's tables deviate from the
gradient (7e-4 eV/Å)."""


class PairBasis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Functions phi_m(r), one set for each pair of elements.

    Quintic B-splines on uniform knots between `inner` and `cutoff`; they and their first four
    derivatives vanish at the cutoff, and below `inner` they continue as straight lines.
    """

    functions: int
    """Number of functions per pair of elements; 0 for no pair potential."""
    inner: float
    """Å, below which they are straight lines; less than any distance in the structures."""
    cutoff: float
    """Å."""
    elements: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.functions and self.functions < 6:
            raise ValueError(f"functions is {self.functions}; a quintic spline needs 6 or more")
        if not 0.0 < self.inner < self.cutoff:
            raise ValueError(
                f"inner is {self.inner} Å and cutoff {self.cutoff} Å; it must be 0 < inner < cutoff"
            )

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of elements as indices of `elements`, in the order of columns."""
        count = range(len(self.elements))
        return tuple((a, b) for a in count for b in count if a <= b)

    @property
    def columns(self) -> int:
        """Coefficients of all pairs of elements."""
        return self.functions * len(self.pairs)

    @property
    def spacing(self) -> float:
        """The distance (Å) between knots."""
        return (self.cutoff - self.inner) / self.functions

    def values(self, r: Scalars) -> tuple[Block, Block]:
        """All functions (n, functions) and their slopes (1/Å) at distances (n,) Å."""
        h = self.spacing
        knots = self.inner + h * np.arange(-_DEGREE, self.functions + _DEGREE + 1)
        # without those that reach the cutoff with a kink
        splines = BSpline(knots, np.eye(self.functions + _DEGREE)[:, : self.functions], _DEGREE)
        slopes = splines.derivative()
        inside = np.clip(r, self.inner, self.cutoff)
        value: Block = splines(inside)
        slope: Block = slopes(inside)
        below = np.minimum(r - self.inner, 0.0)[:, None]
        value = value + below * slope
        beyond = r >= self.cutoff
        value[beyond], slope[beyond] = 0.0, 0.0
        return value, slope

    def curve(self, coefficients: Scalars, r: Scalars) -> tuple[Scalars, Scalars]:
        """Energy (eV) and force (eV/Å, minus the slope) of one pair of elements."""
        value, slope = self.values(r)
        energy: Scalars = value @ coefficients
        force: Scalars = -(slope @ coefficients)
        return energy, force

    def roughness(self) -> Block:
        """(columns - 2 per pair, columns): second differences of the coefficients.

        As soft rows with target 0 they keep the curve smooth where no pair was sampled
        (P-splines; Eilers and Marx, Stat. Sci. 11, 89, 1996).
        """
        n, count = self.functions, len(self.pairs)
        if not n:
            return np.zeros((0, 0))
        # beyond the last function the coefficients are 0: the curve ends flat
        one = np.diff(np.vstack([np.eye(n), np.zeros((2, n))]), n=2, axis=0)
        return np.kron(np.eye(count), one).astype(np.float64)


def pair_rows(structure: Structure, basis: PairBasis) -> Block:
    """Descriptor rows of the pair functions, in the order of `label_rows`.

    Returns:
        (K, 1 + 3N + 6, columns), one block for each group of atoms.
    """
    n, k, m = len(structure), structure.groups, basis.functions
    rows = np.zeros((k, 1 + 3 * n + 6, basis.columns))
    if not m:
        return rows
    frame = Topology(structure.numbers).frame(structure.positions, structure.cell)
    first, second, r, apart = neighbour_list(frame, basis.cutoff)
    values, slopes = basis.values(r)
    place = np.array([basis.elements.index(chemical_symbols[z]) for z in structure.numbers])
    low = np.minimum(place[first], place[second])
    high = np.maximum(place[first], place[second])
    group = structure.group[first].astype(np.intp)
    for number, pair in enumerate(basis.pairs):
        some = np.flatnonzero((low == pair[0]) & (high == pair[1]))
        here = slice(number * m, (number + 1) * m)
        # few functions reach each distance, so most of these are zero
        value, slope = csr_array(values[some]), csr_array(slopes[some])
        i, j, g, vector = first[some], second[some], group[some], apart[some]
        unit = vector / r[some][:, None]
        every = np.arange(len(some))

        # each pair is listed from both sides; half of it belongs to the atom it starts from
        def per_group(
            weight: Scalars, of: csr_array, g: Indices = g, every: Indices = every
        ) -> Block:
            sums: Block = (csr_array((0.5 * weight, (g, every)), shape=(k, len(g))) @ of).toarray()
            return sums

        rows[:, 0, here] = per_group(np.ones(len(some)), value)
        for axis in range(3):
            half = 0.5 * unit[:, axis]
            gradients = csr_array(
                (
                    np.concatenate([half, -half]),
                    (np.concatenate([g * n + i, g * n + j]), np.concatenate([every, every])),
                ),
                shape=(k * n, len(some)),
            )
            rows[:, 1 + axis : -6 : 3, here] = (gradients @ slope).toarray().reshape(k, n, m)
        for at, (x, y) in enumerate(zip(ROWS, COLUMNS, strict=True)):
            rows[:, at - 6, here] = per_group(-vector[:, x] * unit[:, y], slope)
    return rows
