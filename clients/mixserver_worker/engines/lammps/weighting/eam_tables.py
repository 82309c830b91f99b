"""EAM tables of a pairwise potential, whose site energies LAMMPS can weight, for `pair_as_eam`.

An embedded-atom potential with density rho(r) = phi(r), embedding F(rho) = rho / 2 and no pair term
has the site energies of the pairwise phi. LAMMPS interpolates it with cubics, forces being their
exact slopes, and multiplies F by scale[k][k] and forces by scale[k][l], k and l atom types. Thus
types of weight w and scale[k][l] = (w_k + w_l) / 2 give sum_i w_i e_i and its exact gradient.
This module samples the potential with `dimers` and compares the tables with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Mask, Scalars
from mixserver.core.errors import BadInput
from mixserver.core.finite_difference import STENCIL, central_slope, tabulated_slope
from mixserver_worker.engines.lammps.library import LammpsError
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.dimers import Dimers
from mixserver_worker.engines.lammps.weighting.tables import PairCurve

_ALLOWED: Final = frozenset({"pair_style", "pair_coeff", "pair_modify", "labelmap", "mass"})
"""Commands with which energies depend on elements and distances alone. They may use variables,
whose values are fixed."""
_STEP: Final = 2.5e-4
"""Å, the finest grid."""
_COARSER: Final = (8, 4, 2, 1)
"""Grids in units of the finest; the coarsest that is exact enough is the fastest, because its
tables fit the processor's caches."""


class _Allowed(NamedTuple):
    """Errors of the cubics. Forces are always their exact slope, whatever the grid."""

    energy: tuple[float, float]
    """eV, and relative."""
    slope: tuple[float, float]
    """eV/Å, and relative."""


_SMOOTH: Final = _Allowed((2e-11, 2e-11), (1e-8, 1e-8))
_KINKED: Final = _Allowed((1e-9, 5e-8), (1e-6, 5e-5))
"""Of the finest grid where none is as exact as that, because the potential itself consists of
cubics (tables). The grid of 2e-3 Å would be 5 % faster for 8000 atoms of silicon, but forces would
be off by 2e-8 instead of 4e-10 eV/Å."""
_CLOSE: Final = 1.0
"""Å. Tables need not begin below this distance."""
_TOO_FAR: Final = 0.4
"""Of the cutoff. Tables that begin farther out are not worth using."""
_WALL: Final = 1e300
"""eV, below the tables: recognisable with any weight."""
_TRIALS: Final = (*((coarser, _SMOOTH) for coarser in _COARSER), (min(_COARSER), _KINKED))
_SLOPE_SAMPLES: Final = 2500
_END_POINTS: Final = 4
"""Grid points at either end that the slope of a cubic depends on, and one more."""


@dataclass(frozen=True, slots=True, eq=False)
class EamTables:
    """Some of the pairs of elements of a pairwise potential, with one cutoff."""

    types: tuple[int, ...]
    """The user's atom types in it, from 1, ascending."""
    cutoff: float
    """Å."""
    step: float
    """Å between the grid points; the first is at 0."""
    tables: tuple[tuple[tuple[int, int], Scalars], ...]
    """Pair of atom types (the smaller first) and energies (m,) eV at the grid points."""

    def text(self) -> str:
        """An eam/fs file; elements are named X1, X2, ... by the user's atom types."""
        tables = dict(self.tables)
        size = len(self.tables[0][1])
        empty = _lines(np.zeros(size))
        written = {pair: _lines(energies) for pair, energies in tables.items()}
        names = " ".join(f"X{type_}" for type_ in self.types)
        # The embedding is linear beyond its table too, and these numbers make it so exactly.
        embedding: Scalars = np.arange(8.0) / 2.0
        text = [f"pairs\nas\nembedded atoms\n{len(self.types)} {names}\n"]
        text.append(f"{len(embedding)} 1.0 {size} {self.step!r} {self.cutoff!r}\n")
        for one in self.types:
            text.append(f"1 1.0 1.0 none\n{_lines(embedding)}")
            pairs = [(min(one, other), max(one, other)) for other in self.types]
            text += [written.get(pair, empty) for pair in pairs]
        text += [empty] * (len(self.types) * (len(self.types) + 1) // 2)
        return "".join(text)


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """One pair of atom types: samples at all points of the finest grid."""

    types: tuple[int, int]
    first: int
    """Grid points below this one are not sampled."""
    outer: float
    """Å, its cutoff."""
    energies: Scalars
    coarser: int
    """The coarsest grid that is exact enough, in units of the finest."""


def embed_pairs(
    setup: PotentialSetup, commands: Sequence[str], cutoff: float
) -> tuple[EamTables, ...]:
    """Write a pairwise potential as EAM tables; none if that is impossible or not exact.

    Args:
        setup: of the unweighted potential; its commands are not used.
        commands: of the pairwise potential.
        cutoff: Å, at least that of the potential.
    """
    words = {text.split()[0] for text in commands}
    if not words <= _ALLOWED | {"variable"} or any("tom_style" in t for t in setup.before_box):
        return ()
    here = setup.on_host(commands, site_energies=setup.site_energies)
    count = len(setup.numbers)
    pairs: list[_Pair] = []
    for types in itertools.combinations_with_replacement(range(1, count + 1), 2):
        with closing(Dimers(here, types, cutoff)) as dimers:
            try:
                inner = dimers.innermost()
                outer = dimers.outermost(inner)
                found = None if outer is None else _sampled(dimers, types, inner, outer)
            except (LammpsError, BadInput):
                return ()
        if outer is not None and found is None:
            return ()
        if found is not None:
            pairs.append(found)
    return _grouped(pairs)


def _sampled(dimers: Dimers, types: tuple[int, int], inner: float, outer: float) -> _Pair | None:
    """Sample one pair of types; None if the finest grid is not exact enough."""
    first, last = int(inner / _STEP) + 1, int(np.ceil(outer / _STEP)) - 1
    if last - first < 1000:
        return None
    grid: Scalars = np.arange(first, last + 1).astype(np.float64)
    sampled = dimers.energies(_STEP * grid)
    # Beyond the cutoff a few points complete the last cubic; they are used for nothing else.
    coarsest = max(_COARSER)
    ending = sampled[::-1][: 5 * coarsest : coarsest][::-1]
    beyond = _extrapolated(ending, (_END_POINTS + 1) * coarsest, coarsest)
    energies = np.concatenate([np.zeros(first), sampled, beyond])
    energies[:first] = energies[first]

    middles: Scalars = _STEP * (grid[:-1] + 0.5)  # all of them: only these show a jump
    exact = dimers.energies(middles)
    probes = np.sort(np.random.default_rng(1).uniform(inner + 1e-3, outer - 1e-3, _SLOPE_SAMPLES))
    delta = 0.25 * _STEP
    slope = central_slope([dimers.energies(probes + k * delta) for k in STENCIL], delta)
    for coarser, allowed in _TRIALS:
        cubics = curve(energies[::coarser], coarser * _STEP)
        got, tilt = cubics.at(middles)[0], cubics.at(probes)[1]
        off, skew = _wrong(got, exact, allowed.energy), _wrong(tilt, slope, allowed.slope)
        lowest = 0.01 + float(np.concatenate([middles[off], probes[skew]]).max(initial=inner))
        enough = max(_CLOSE, inner + 0.05, _TOO_FAR * outer if allowed is _KINKED else 0.0)
        if lowest <= enough:
            return _Pair(types, int(lowest / _STEP) + 1, outer, energies, coarser)
    return None


def _wrong(got: Scalars, exact: Scalars, allowed: tuple[float, float]) -> Mask:
    """Where values differ by more than is allowed, absolute and relative."""
    absolute, relative = allowed
    wrong: Mask = np.abs(got - exact) > absolute + relative * np.abs(exact)
    return wrong


def _grouped(pairs: Sequence[_Pair]) -> tuple[EamTables, ...]:
    """Tables for these pairs: one for each cutoff, unless energies end smoothly before it."""
    groups: list[tuple[float, list[_Pair]]] = []
    for pair in sorted(pairs, key=lambda pair: -pair.outer):
        for cutoff, members in groups:
            if cutoff - pair.outer < 1e-10 or _ends_smoothly(pair):
                members.append(pair)
                break
        else:
            groups.append((pair.outer, [pair]))
    found: list[EamTables] = []
    for cutoff, members in groups:
        coarser = min(pair.coarser for pair in members)
        step = coarser * _STEP
        size = int(np.ceil(cutoff / step)) + _END_POINTS
        tables = tuple((pair.types, _table(pair, cutoff, coarser, size)) for pair in members)
        types = tuple(sorted({type_ for pair in members for type_ in pair.types}))
        found.append(EamTables(types, cutoff, step, tables))
    return tuple(found)


def _ends_smoothly(pair: _Pair) -> bool:
    """Whether the cubics stay as exact with zeros beyond the cutoff of the pair."""
    last = int(pair.outer / _STEP)
    end = pair.energies[last - 2 * max(_COARSER) : last + 1]
    return bool(np.abs(end).max() < 0.1 * _SMOOTH.energy[0])


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


def curve(energies: Scalars, step: float) -> PairCurve:
    """The cubics that LAMMPS makes from a table that begins at 0 Å."""
    slope = tabulated_slope(energies, step, edge_order=1)
    return PairCurve((1, 1), 0.0, step, energies, slope, 0.0)


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
