"""Forces consistent with the energies of tabulated pair potentials, for `pairwise`.

LAMMPS interpolates energies and forces of ``pair_style table`` separately, so its forces are the
gradient of the energy only as far as the two columns of the file agree (1e-3 eV/Å and worse for
coarse files). Energy conservation needs better: the energy of such a pair of elements is sampled
once here, and its force is the slope of that curve.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.core.finite_difference import tabulated_slope
from mixserver.core.scratch import scratch_directory
from mixserver_worker.engines.lammps.library import LammpsError, LammpsLibrary
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.text import words_of

_STEP: Final = 2e-4
"""Å between samples: less than between the knots of LAMMPS's interpolation."""
_NEAREST: Final = 0.5
"""Å. Closer pairs are left to LAMMPS: their energies are too steep to sample."""
_CONSISTENT: Final = 2e-8
"""eV/Å, relative to forces beyond 1 eV/Å: the accuracy of sampling."""


@dataclass(frozen=True, slots=True, eq=False)
class PairCurve:
    """Energy of a pair of atoms against distance; a cubic between the samples."""

    types: tuple[int, int]
    """Atom types, from 1."""
    start: float
    """Å, first sample."""
    step: float
    """Å."""
    energies: Scalars
    """(m,) eV."""
    slopes: Scalars
    """(m,) eV/Å at the samples."""
    inconsistency: float
    """eV/Å by which LAMMPS's forces differ."""

    def at(self, distance: Scalars) -> tuple[Scalars, Scalars]:
        """Energy (eV) and its exact slope (eV/Å) at distances of `start` or more."""
        place = (distance - self.start) / self.step
        left = np.clip(place.astype(np.intp), 0, len(self.energies) - 2)
        t = place - left
        e0, e1 = self.energies[left], self.energies[left + 1]
        d0, d1 = self.slopes[left] * self.step, self.slopes[left + 1] * self.step
        square, cube = 3.0 * (e1 - e0) - 2.0 * d0 - d1, 2.0 * (e0 - e1) + d0 + d1
        energy: Scalars = e0 + t * (d0 + t * (square + t * cube))
        slope: Scalars = (d0 + t * (2.0 * square + t * 3.0 * cube)) / self.step
        return energy, slope


def inconsistent_tables(
    setup: PotentialSetup, commands: Sequence[str], cutoff: float
) -> tuple[PairCurve, ...]:
    """Curves of the pairs of atom types whose forces in LAMMPS are not the gradient.

    Args:
        setup: units, number of atom types.
        commands: of the pairwise potential.
        cutoff: Å, of the potential.

    Raises:
        LammpsError: LAMMPS refused.
    """
    styles = [words_of(text) for text in commands if text.startswith("pair_style")]
    if not any("table" in words for words in styles):
        return ()
    with closing(LammpsLibrary(["-log", "none"])) as library, scratch_directory() as folder:
        box = "region mx_box block 0 50 0 50 0 50 units box"
        start = ("units metal", "atom_style atomic", "newton on", box)
        count = len(setup.numbers)
        for text in (*start, f"create_box {count} mx_box", "mass * 1.0", *commands):
            library.command(text)
        curves = [
            _curve(library, types, cutoff, Path(folder, "samples"))
            for types in itertools.combinations_with_replacement(range(1, count + 1), 2)
        ]
    return tuple(curve for curve in curves if curve.inconsistency > _CONSISTENT)


def _curve(library: LammpsLibrary, types: tuple[int, int], cutoff: float, file: Path) -> PairCurve:
    inner = _innermost(library, types, cutoff, file)
    count = int((cutoff - inner) / _STEP) + 2
    distance, energy, force = _samples(library, types, (inner, cutoff, count), file)
    step = float(distance[-1] - distance[0]) / (count - 1)
    slope = tabulated_slope(energy, step)
    curve = PairCurve(types, float(distance[0]), step, energy, slope, 0.0)
    wrong = np.abs(force + slope)[2:-50]  # at its cutoff an energy may jump
    scale = np.maximum(1.0, np.abs(force[2:-50]))
    return replace(curve, inconsistency=float((wrong / scale).max(initial=0.0)))


def _innermost(library: LammpsLibrary, types: tuple[int, int], cutoff: float, file: Path) -> float:
    """The smallest distance from `_NEAREST` on for which LAMMPS has an energy."""

    def has_energy(distance: float) -> bool:
        try:
            _samples(library, types, (distance, cutoff, 2), file)
        except LammpsError:
            return False
        return True

    return smallest_distance(has_energy, _NEAREST, cutoff, 0.5 * _STEP)


def smallest_distance(
    has_energy: Callable[[float], bool], nearest: float, cutoff: float, tolerance: float
) -> float:
    """Å, the smallest distance from `nearest` on with an energy, by bisection."""
    if has_energy(nearest):
        return nearest
    low, high = nearest, 0.999 * cutoff
    while high - low > tolerance:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if has_energy(middle) else (middle, high)
    return high


def _samples(
    library: LammpsLibrary, types: tuple[int, int], grid: tuple[float, float, int], file: Path
) -> tuple[Scalars, Scalars, Scalars]:
    """Distances, energies and forces."""
    low, high, count = grid
    file.unlink(missing_ok=True)
    library.command(
        f'pair_write {types[0]} {types[1]} {count} r {low:.17g} {high:.17g} "{file}" samples'
    )
    table = np.loadtxt(file, skiprows=5, ndmin=2)
    return table[:, 1].copy(), table[:, 2].copy(), table[:, 3].copy()
