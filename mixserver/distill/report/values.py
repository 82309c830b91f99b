"""Numbers of a report: deviations from the expensive model, their limits, and numbers as text.

Missing or non-finite values are None, and an en dash as text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from mixserver.analysis.bulk.properties import BulkProperties
from mixserver.core.arrays import Scalars
from mixserver.distill.results import Candidate

NONE: Final = "–"
OFF: Final = 2.0
"""%, the limit for elastic constants and bulk moduli."""
STRAIN: Final = 0.02
"""%, the limit for a misfit of lattices, which strains the surroundings of a region."""
_CUBIC: Final = ("C11", "C12", "C44")
_ANY: Final = ("C11", "C22", "C33", "C12", "C13", "C23", "C44", "C55", "C66")
_LARGEST_CELL: Final = 8
"""Most atoms of a cubic cell whose edge is the lattice constant."""
_ALIKE: Final = 1e-4
"""Relative tolerance of lengths and angles of a cubic lattice."""


def number(value: float | None, digits: int) -> str:
    """The value with a number of decimals."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:.{digits}f}"
    return text if float(text) else text.removeprefix("-")


def short(value: float | None, figures: int = 3) -> str:
    """The value with a number of significant figures."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) >= 10.0**figures:
        return f"{value:.0f}"
    return f"{value:#.{figures}g}".removesuffix(".") if value else "0"


def signed(value: float | None, unit: str = " %") -> str:
    """A deviation with its sign, rounded to two decimals; empty if there is none."""
    if value is None or not math.isfinite(value):
        return ""
    text = f"{value:+.2f}" if abs(value) < 9.995 else f"{value:+.0f}"
    return f"{text if float(text) else '0.00'}{unit}"


def finite(value: float | None) -> float | None:
    """The value, or None if it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def deviation(ours: float | None, theirs: float | None) -> float | None:
    """The deviation (%) of ours from theirs."""
    if finite(ours) is None or finite(theirs) is None or ours is None or not theirs:
        return None
    return 100.0 * (ours / theirs - 1.0)


def beyond(value: float | None, most: float) -> bool:
    """Whether the absolute value is known and above the limit."""
    return value is not None and abs(value) > most


def lattice_constant(seen: BulkProperties) -> float | None:
    """The edge (Å) of the conventional cubic cell; None for other lattices and for supercells.

    The cell may be the cube itself or the primitive cell of a face- or body-centred one.
    """
    lengths, angles = np.array(seen.lengths), np.array(seen.angles)
    if seen.cubic is None or not np.allclose(lengths, lengths.mean(), rtol=_ALIKE):
        return None
    edges = {60.0: math.sqrt(2.0), 90.0: 1.0, math.degrees(math.acos(-1 / 3)): 2 / math.sqrt(3.0)}
    for angle, edge in edges.items():
        small = angle != 90.0 or len(seen.positions) <= _LARGEST_CELL
        if small and np.allclose(angles, angle, rtol=_ALIKE):
            return float(edge * lengths.mean())
    return None


def misfit(ours: BulkProperties | None, theirs: BulkProperties) -> float | None:
    """The difference (%) of lengths, from the cube root of the volume per atom."""
    ratio = _ratio(ours, theirs)
    return None if ratio is None else 100.0 * (ratio - 1.0)


def constant_like(ours: BulkProperties | None, theirs: BulkProperties) -> float | None:
    """Our lattice constant (Å) for the same cell as theirs."""
    theirs_is, ratio = lattice_constant(theirs), _ratio(ours, theirs)
    return None if theirs_is is None or ratio is None else theirs_is * ratio


def constants(seen: BulkProperties | None, like: BulkProperties) -> dict[str, float | None]:
    """Elastic constants (GPa): three if the expensive model's crystal is cubic, else nine."""
    if like.cubic is not None and seen is not None and seen.cubic is not None:
        return dict(zip(_CUBIC, map(finite, seen.cubic), strict=True))
    names = _ANY if like.cubic is None else _CUBIC
    matrix = _matrix(seen)
    if matrix is None:
        return dict.fromkeys(names)
    return {name: finite(float(matrix[int(name[1]) - 1, int(name[2]) - 1])) for name in names}


def elastic_error(candidate: Candidate, expensive: BulkProperties) -> float | None:
    """The largest deviation (%) of an elastic constant.

    In cubic crystals relative to the constant itself; in others, where constants may be zero by
    symmetry, relative to the largest constant.
    """
    ours, theirs = constants(candidate.bulk, expensive), constants(expensive, expensive)
    if expensive.cubic is not None:
        found = [deviation(ours[name], theirs[name]) for name in theirs]
        known = [abs(value) for value in found if value is not None]
        return max(known) if len(known) == len(found) else None
    mine, other = _matrix(candidate.bulk), _matrix(expensive)
    if mine is None or other is None or not np.isfinite(mine).all() or not other.any():
        return None
    return finite(float(100.0 * np.abs(mine - other).max() / np.abs(other).max()))


def stable(seen: BulkProperties) -> bool | None:
    """Whether no strain and no phonon lowers the energy; None if unknown."""
    matrix = _matrix(seen)
    flat = [value for values in seen.phonons.values() for value in values]
    if matrix is None or not np.isfinite(matrix).all() or not np.isfinite(flat).all():
        return None
    if not all(seen.phonons.values()):
        return None
    return seen.stable


def by_temperature(of: str) -> tuple[str, float]:
    """Kind and temperature to sort by: hot and 600 for "hot 600 K"; -1 K if there is none."""
    words = of.split()
    if len(words) >= 3 and words[-1] == "K":
        try:
            return " ".join(words[:-2]), float(words[-2])
        except ValueError:
            pass
    return of, -1.0


def hot_kind(kinds: Iterable[str]) -> str | None:
    """The kind of structures for comparisons: hot bulk at the middle temperature."""
    ordered = sorted(set(kinds), key=by_temperature)
    ordered = [of for of in ordered if of.startswith("hot")] or ordered
    return ordered[len(ordered) // 2] if ordered else None


def _ratio(ours: BulkProperties | None, theirs: BulkProperties) -> float | None:
    if ours is None or not ours.volume > 0.0 or not theirs.volume > 0.0:
        return None
    return finite((ours.volume / theirs.volume) ** (1.0 / 3.0))


def _matrix(seen: BulkProperties | None) -> Scalars | None:
    """The elastic constants (6, 6) GPa."""
    if seen is None:
        return None
    matrix = np.array(seen.elastic, dtype=np.float64)
    return matrix if matrix.shape == (6, 6) else None
