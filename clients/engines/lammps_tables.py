"""Tabulated potentials whose forces are not the gradient of their energies, made consistent.

LAMMPS interpolates the energies and the forces of ``pair_style table`` apart, so its forces are a
gradient only as well as the two columns of the file agree (1e-3 eV/Å and worse for coarse files).
An energy that is to be conserved needs better: here the energy of such a pair of elements is
sampled once, and its force is the slope of that very curve. Knows single pairs, no atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from clients.engines.lammps_instance import Setup
from clients.engines.lammps_library import LammpsError, Library
from clients.engines.lammps_words import words_of
from mixserver.arrays import Scalars
from mixserver.private import private_folder

_STEP: Final = 2e-4
"""Å between samples: less than between the knots LAMMPS interpolates with."""
_NEAREST: Final = 0.5
"""Å. Closer pairs are left to LAMMPS: their energies are too steep to sample."""
_CONSISTENT: Final = 2e-8
"""eV/Å, relative to forces beyond 1 eV/Å. What sampling can tell."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Energy of a pair of atoms over their distance; between the samples, a cubic."""

    kinds: tuple[int, int]
    """Atom types, counted from 1."""
    start: float
    """Å, first sample."""
    step: float
    """Å."""
    energies: Scalars
    """(m,) eV."""
    slopes: Scalars
    """(m,) eV/Å at the samples."""
    fault: float
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


def curves_of(setup: Setup, commands: Sequence[str], cutoff: float) -> tuple[Curve, ...]:
    """Curves for those pairs of atom types whose forces in LAMMPS are no gradient.

    Args:
        setup: units, number of atom types.
        commands: of the pairwise potential.
        cutoff: Å, how far it looks.

    Raises:
        LammpsError: LAMMPS refused.
    """
    styles = [words_of(text) for text in commands if text.startswith("pair_style")]
    if not any("table" in words for words in styles):
        return ()
    library = Library(["-log", "none"])
    found: list[Curve] = []
    try:
        with private_folder() as folder:
            box = "region mx_box block 0 50 0 50 0 50 units box"
            start = ("units metal", "atom_style atomic", "newton on", box)
            kinds = len(setup.numbers)
            for text in (*start, f"create_box {kinds} mx_box", "mass * 1.0", *commands):
                library.command(text)
            for one in range(1, kinds + 1):
                for other in range(one, kinds + 1):
                    curve = _curve(library, (one, other), cutoff, Path(folder, "samples"))
                    if curve.fault > _CONSISTENT:
                        found.append(curve)
    finally:
        library.close()
    return tuple(found)


def _curve(library: Library, kinds: tuple[int, int], cutoff: float, file: Path) -> Curve:
    inner = _innermost(library, kinds, cutoff, file)
    count = int((cutoff - inner) / _STEP) + 2
    distance, energy, force = _samples(library, kinds, (inner, cutoff, count), file)
    step = float(distance[-1] - distance[0]) / (count - 1)
    slope = np.gradient(energy, step, edge_order=2)
    slope[2:-2] = (energy[:-4] - 8.0 * energy[1:-3] + 8.0 * energy[3:-1] - energy[4:]) / (12 * step)
    curve = Curve(kinds, float(distance[0]), step, energy, slope, 0.0)
    wrong = np.abs(force + slope)[2:-50]  # at its cutoff an energy may jump
    scale = np.maximum(1.0, np.abs(force[2:-50]))
    return replace(curve, fault=float((wrong / scale).max(initial=0.0)))


def _innermost(library: Library, kinds: tuple[int, int], cutoff: float, file: Path) -> float:
    """The smallest distance LAMMPS has an energy for, from `_NEAREST` on."""

    def known(distance: float) -> bool:
        try:
            _samples(library, kinds, (distance, cutoff, 2), file)
        except LammpsError:
            return False
        return True

    if known(_NEAREST):
        return _NEAREST
    low, high = _NEAREST, 0.999 * cutoff
    while high - low > 0.5 * _STEP:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if known(middle) else (middle, high)
    return high


def _samples(
    library: Library, kinds: tuple[int, int], grid: tuple[float, float, int], file: Path
) -> tuple[Scalars, Scalars, Scalars]:
    """Distances, energies and forces."""
    low, high, count = grid
    file.unlink(missing_ok=True)
    library.command(
        f'pair_write {kinds[0]} {kinds[1]} {count} r {low:.17g} {high:.17g} "{file}" samples'
    )
    table = np.loadtxt(file, skiprows=5, ndmin=2)
    return table[:, 1].copy(), table[:, 2].copy(), table[:, 3].copy()
