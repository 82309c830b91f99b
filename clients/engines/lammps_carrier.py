"""A pairwise potential written as an embedded-atom one, whose site energies LAMMPS can weight.

An embedded-atom potential with density rho(r) = phi(r), embedding F(rho) = rho / 2 and no pair term
has the site energies of the pairwise phi. LAMMPS interpolates it with cubics, forces being their
exact slopes, and multiplies F by scale[k][k] and forces by scale[k][l], k and l atom types. So
types of weight w and scale[k][l] = (w_k + w_l) / 2 give sum_i w_i e_i and its exact gradient.
Here the tables are made and compared with the potential. Knows no atoms and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clients.engines.lammps_dimers import Dimers
from clients.engines.lammps_instance import Setup
from clients.engines.lammps_library import LammpsError
from clients.engines.lammps_pairwise import on_host
from clients.engines.lammps_tables import Curve
from mixserver.arrays import Scalars
from mixserver.errors import BadInput

_PLAIN: Final = frozenset({"pair_style", "pair_coeff", "pair_modify", "labelmap", "mass"})
"""Commands with which energies depend on elements and distances alone; `variable` may be read by
any of them, but cannot change."""
_STEP: Final = 2.5e-4
"""Å, the finest grid."""
_COARSER: Final = (4, 2, 1)
"""Grids in units of the finest: the first one that is exact enough is the fastest."""
_ENERGY: Final = (2e-11, 1e-9)
"""eV, or relative to larger energies: what the cubics may be off, and what those of the finest grid
may be off where the potential is itself made of cubics (tables)."""
_SLOPE: Final = (1e-8, 1e-5)
"""eV/Å, or relative to larger slopes; likewise. Forces are the exact slope of the cubics anyway."""
_CLOSE: Final = 1.0
"""Å. Closer atoms need not be in the tables."""
_TOO_FAR: Final = 0.4
"""Of the cutoff. If tables end farther out than this they are not worth it."""
_WALL: Final = 1e300
"""eV, where they do not reach: unmistakable with any weight."""
_PROBES: Final = 2500
_STENCIL: Final = 4
"""Grid points at either end that the slope of a cubic depends on, and one more."""


@dataclass(frozen=True, slots=True, eq=False)
class Carrier:
    """Some of the pairs of elements of a pairwise potential, with one cutoff."""

    kinds: tuple[int, ...]
    """The user's atom types it sees, counted from 1, ascending."""
    cutoff: float
    """Å."""
    step: float
    """Å between the grid points, the first of which is at 0."""
    tables: tuple[tuple[tuple[int, int], Scalars], ...]
    """Pair of atom types (the smaller first) and energies (m,) eV at the grid points."""

    def text(self) -> str:
        """An eam/fs file; elements are named X1, X2, ... by the user's atom types."""
        tables = dict(self.tables)
        size = len(self.tables[0][1])
        nothing = _lines(np.zeros(size))
        written = {pair: _lines(energies) for pair, energies in tables.items()}
        names = " ".join(f"X{kind}" for kind in self.kinds)
        # The embedding is linear beyond its table too, and these numbers make it so exactly.
        embedding: Scalars = np.arange(8.0) / 2.0
        text = [f"pairs\nas\nembedded atoms\n{len(self.kinds)} {names}\n"]
        text.append(f"{len(embedding)} 1.0 {size} {self.step!r} {self.cutoff!r}\n")
        for one in self.kinds:
            text.append(f"1 1.0 1.0 none\n{_lines(embedding)}")
            pairs = [(min(one, other), max(one, other)) for other in self.kinds]
            text += [written.get(pair, nothing) for pair in pairs]
        text += [nothing] * (len(self.kinds) * (len(self.kinds) + 1) // 2)
        return "".join(text)


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """One pair of atom types: samples at all points of the finest grid."""

    kinds: tuple[int, int]
    first: int
    """Grid points below are not sampled."""
    outer: float
    """Å, its cutoff."""
    energies: Scalars
    coarser: int
    """Its fastest grid that is exact enough."""


def carriers_of(setup: Setup, commands: Sequence[str], cutoff: float) -> tuple[Carrier, ...]:
    """The potential as embedded-atom ones; none if that is impossible or not exact.

    Args:
        setup: as of the plain potential; its commands are not used.
        commands: of the pairwise potential.
        cutoff: Å, at least that of the potential.
    """
    words = {text.split()[0] for text in commands}
    if not words <= _PLAIN | {"variable"} or any("tom_style" in t for t in setup.before_box):
        return ()
    here = alone(setup, commands)
    count = len(setup.numbers)
    pairs: list[_Pair] = []
    for one in range(1, count + 1):
        for other in range(one, count + 1):
            dimers = Dimers(here, (one, other), cutoff)
            try:
                inner = dimers.innermost()
                outer = dimers.outermost(inner)
                found = None if outer is None else _pair(dimers, (one, other), inner, outer)
            except (LammpsError, BadInput):
                return ()
            finally:
                dimers.close()
            if outer is not None and found is None:
                return ()
            if found is not None:
                pairs.append(found)
    return _grouped(pairs)


def alone(setup: Setup, commands: Sequence[str]) -> Setup:
    """A setup with other commands, on the host, without accelerators."""
    devices = ("package", "suffix")
    return replace(
        setup,
        before_box=tuple(t for t in setup.before_box if t.split()[0] not in devices),
        after_box=tuple(commands),
        arguments=on_host(setup.arguments),
        accelerated=False,
    )


def _pair(dimers: Dimers, kinds: tuple[int, int], inner: float, outer: float) -> _Pair | None:
    """Sample one pair of types; None if no grid is fine enough."""
    first, last = int(inner / _STEP) + 1, int(np.ceil(outer / _STEP)) - 1
    if last - first < 1000:
        return None
    grid: Scalars = np.arange(first, last + 1).astype(np.float64)
    sampled = dimers.energies(_STEP * grid)
    # Beyond the cutoff a few points complete the last cubic; nobody looks there otherwise.
    coarsest = max(_COARSER)
    ending = sampled[::-1][: 5 * coarsest : coarsest][::-1]
    beyond = _extrapolated(ending, (_STENCIL + 1) * coarsest, coarsest)
    energies = np.concatenate([np.zeros(first), sampled, beyond])
    energies[:first] = energies[first]

    middles: Scalars = _STEP * (grid[:-1] + 0.5)  # all of them: a jump is seen nowhere else
    right = dimers.energies(middles)
    probes = np.sort(np.random.default_rng(1).uniform(inner + 1e-3, outer - 1e-3, _PROBES))
    delta = 0.25 * _STEP
    near = [dimers.energies(probes + k * delta) for k in (-2, -1, 1, 2)]
    slope = (near[0] - 8.0 * near[1] + 8.0 * near[2] - near[3]) / (12.0 * delta)
    for coarser in _COARSER:
        cubics = curve(energies[::coarser], coarser * _STEP)
        got, tilt = cubics.at(middles)[0], cubics.at(probes)[1]
        finest = coarser == min(_COARSER)
        off = np.abs(got - right) > _ENERGY[finest] * np.maximum(1.0, np.abs(right))
        skew = np.abs(tilt - slope) > _SLOPE[finest] * np.maximum(1.0, np.abs(slope))
        lowest = 0.01 + float(np.concatenate([middles[off], probes[skew]]).max(initial=inner))
        enough = max(_CLOSE, inner + 0.05, _TOO_FAR * outer if finest else 0.0)
        if lowest <= enough:
            return _Pair(kinds, int(lowest / _STEP) + 1, outer, energies, coarser)
    return None


def _grouped(pairs: Sequence[_Pair]) -> tuple[Carrier, ...]:
    """Carriers for these pairs: one for each cutoff, unless energies end smoothly before it."""
    groups: list[tuple[float, list[_Pair]]] = []
    for pair in sorted(pairs, key=lambda pair: -pair.outer):
        for cutoff, members in groups:
            if cutoff - pair.outer < 1e-10 or _ends_smoothly(pair):
                members.append(pair)
                break
        else:
            groups.append((pair.outer, [pair]))
    found: list[Carrier] = []
    for cutoff, members in groups:
        coarser = min(pair.coarser for pair in members)
        step = coarser * _STEP
        size = int(np.ceil(cutoff / step)) + _STENCIL
        tables = tuple((pair.kinds, _table(pair, cutoff, coarser, size)) for pair in members)
        kinds = tuple(sorted({kind for pair in members for kind in pair.kinds}))
        found.append(Carrier(kinds, cutoff, step, tables))
    return tuple(found)


def _ends_smoothly(pair: _Pair) -> bool:
    """Whether zeros beyond its cutoff leave the cubics as exact as they are."""
    last = int(pair.outer / _STEP)
    end = pair.energies[last - 2 * max(_COARSER) : last + 1]
    return bool(np.abs(end).max() < 0.1 * _ENERGY[0])


def _table(pair: _Pair, cutoff: float, coarser: int, size: int) -> Scalars:
    energies = pair.energies.copy()
    if cutoff - pair.outer > 1e-10:
        energies[int(np.ceil(pair.outer / _STEP)) :] = 0.0
    # The slope at a point depends on two more on either side.
    energies[: pair.first] = _WALL
    table = np.zeros(size)
    kept = energies[::coarser][:size]
    table[: len(kept)] = kept
    return table


def curve(energies: Scalars, step: float) -> Curve:
    """The cubics LAMMPS makes of a table that begins at 0 Å."""
    slope = np.gradient(energies, step)
    slope[2:-2] = (energies[:-4] - 8.0 * energies[1:-3] + 8.0 * energies[3:-1] - energies[4:]) / (
        12.0 * step
    )
    return Curve((1, 1), 0.0, step, energies, slope, 0.0)


def _extrapolated(samples: Scalars, count: int, stride: int) -> Scalars:
    """A polynomial through the last samples, at `count` points after them.

    The samples are `stride` points apart, the last of them just before the first point.
    """
    x = stride * np.arange(1.0 - len(samples), 1.0)
    ahead: NDArray[np.float64] = np.arange(1.0, count + 1.0)
    result = np.zeros(count)
    for k, value in enumerate(samples):
        others = np.delete(x, k)
        result += value * np.prod((ahead[:, None] - others) / (x[k] - others), axis=1)
    return result


def _lines(values: Scalars) -> str:
    return "\n".join(map(repr, values.tolist())) + "\n"
