"""Comparison of a frame with a reference structure of the same atoms.

Compares the two cells (rotation and stretch, see `geometry.deformation`) and the fractional
coordinates after the best common shift. Atoms farther from their sites than half the spacing are
*out of place*. If these are on sites of other atoms, the order of the atoms differs; if not, the
atoms have moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.cell import Cell

from mixserver.core.arrays import Indices, Mask, Matrix, Scalars, Vectors
from mixserver.core.cell import minimum_image
from mixserver.core.frame import Frame
from mixserver.core.units import BOHR
from mixserver.geometry import Deformation
from mixserver.geometry.sites import Sites, typical_spacing

UNIT_ERRORS: Final = {
    1.0 / BOHR: "what i-PI takes as Å was read as bohr in the structure",
    BOHR: "what the structure has in Å i-PI reads as bohr",
    10.0: "what i-PI takes as nm was read as Å in the structure",
    0.1: "what the structure has in nm i-PI reads as Å",
}
"""Unit errors, by the ratio of i-PI's lengths to those of the structure."""
_SURE: Final = 0.35
"""Å; atoms closer to their sites than this are on no other atom's site."""
_OUT: Final = 0.5
"""Spacings; beyond, an atom is out of place."""
_ON_SITE: Final = 0.3
"""Spacings; closer, an atom is on a site."""
_SAMPLE: Final = 4096
"""Atoms that determine a common shift, and most atoms out of place that are looked up."""
_TRIED: Final = 64
"""Atoms that test a common shift, and most shifts that are tested."""


@dataclass(frozen=True)
class Exchanged:
    """Where the atoms out of place are."""

    looked_at: int
    """Number of atoms out of place that were looked up."""
    on_equal: int
    """Number of these on the site of another atom of their element."""
    on_other: int
    """Number of these on the site of an atom of another element."""
    together: int
    """Number of these that moved with their nearest neighbour, as in a gliding block."""
    pairs: tuple[tuple[int, int], ...]
    """The first few: (index of the atom in i-PI, index of the atom whose site it is on)."""


@dataclass(frozen=True)
class Placement:
    """The result of comparing a frame with its reference."""

    deformation: Deformation
    """From the reference's cell to the frame's."""
    shift: Scalars
    """(3,) Å, the common translation of all atoms; displacements exclude it."""
    rms: float
    """Å, root mean square of the displacements from the reference's sites."""
    largest: float
    """Å, the largest of them."""
    farthest: int
    """Which atom that is."""
    spacing: float
    """Å between nearest neighbours in the reference; 0 if it was not needed."""
    out: Indices
    """Atoms out of place."""
    exchanged: Exchanged | None
    """Where the atoms out of place are; None if there are none."""
    scale: float
    """Ratio of positions to those of the reference if it is a unit error; else 1."""
    same_lattice: bool
    """Whether the cells differ, but span the same lattice."""


def compare(reference: Frame, frame: Frame) -> Placement:
    """Compare a frame with a reference of as many atoms; linear in their number.

    Args:
        reference: the structure.
        frame: what i-PI sent.
    """
    deformation = Deformation.between(reference.cell, frame.cell)
    shift = _ordered_shift(reference, frame)
    distance = _distances(reference, frame, shift)
    between, scale, exchanged = 0.0, 1.0, None
    out = np.empty(0, dtype=np.intp)
    if distance.max() > _SURE:
        between = typical_spacing(reference)
        if (distance > _OUT * between).any():
            sites = Sites(reference)
            shift = _matching_shift(reference, frame, sites, shift, _ON_SITE * between)
            distance = _distances(reference, frame, shift)
            out = np.flatnonzero(distance > _OUT * between)
        if len(out):
            exchanged = _exchanged(reference, frame, sites, shift, out, between)
            scale = _scale(reference, frame, deformation, between)
    farthest = int(distance.argmax())
    return Placement(
        deformation=deformation,
        shift=shift @ frame.cell,
        rms=math.sqrt(float(np.vdot(distance, distance)) / len(distance)),
        largest=float(distance[farthest]),
        farthest=farthest,
        spacing=between,
        out=out,
        exchanged=exchanged,
        scale=scale,
        same_lattice=_same_lattice(reference.cell, frame.cell, deformation),
    )


def _distances(reference: Frame, frame: Frame, shift: Scalars) -> Scalars:
    """Distances of the atoms from their sites, (N,) Å."""
    moved = displacements(reference, frame, shift)
    distances: Scalars = np.sqrt(np.einsum("ij,ij->i", moved, moved))
    return distances


def _ordered_shift(reference: Frame, frame: Frame) -> Scalars:
    """(3,) fractions, the common shift of all atoms if they kept their order."""
    some, pbc = _some(len(frame), _SAMPLE), frame.topology.pbc
    moved = frame.fractional[some] - reference.fractional[some]
    around = np.angle(np.exp(2j * np.pi * moved).mean(axis=0)) / (2.0 * np.pi)
    shift: Scalars = np.where(pbc, around, moved.mean(axis=0))
    return _centred(shift, minimum_image(moved - shift, pbc), frame.cell)


def _centred(shift: Scalars, left: Vectors, cell: Matrix) -> Scalars:
    """A shift (fractions) refined by the median residual; one that is only rounding becomes 0."""
    more = np.median(left, axis=0)
    better: Scalars = shift + more
    return np.zeros(3) if np.abs(better @ cell).max() < 1e-9 else better


def _matching_shift(
    reference: Frame, frame: Frame, sites: Sites, ordered: Scalars, reach: float
) -> Scalars:
    """(3,) fractions, the shift that puts the most atoms on sites, whatever their order."""
    numbers, pbc = frame.topology.numbers, frame.topology.pbc
    some = _some(len(frame), _TRIED)
    elements, counts = np.unique(numbers, return_counts=True)
    rare, theirs = elements[counts.argmin()], reference.topology.numbers
    probe = frame.fractional[np.flatnonzero(numbers == rare)[0]]
    starts = np.flatnonzero(theirs == rare)
    starts = starts[_some(len(starts), _TRIED)]
    best, most = ordered, 0
    left = minimum_image(frame.fractional[some] - reference.fractional[some] - ordered, pbc)
    own = left @ frame.cell
    if 2 * np.count_nonzero((own**2).sum(axis=1) < reach**2) > len(some):
        return ordered  # in a perfect crystal, other shifts put as many atoms on sites
    for shift in (np.zeros(3), ordered, *(probe - reference.fractional[starts])):
        places = frame.fractional[some] - shift
        near = sites.nearest(places, frame.cell)
        on = (near.distance < reach) & (theirs[near.atoms] == numbers[some])
        if (count := int(np.count_nonzero(on))) > most:
            left = minimum_image(places[on] - reference.fractional[near.atoms[on]], pbc)
            best, most = _centred(shift, left, frame.cell), count
        if most >= 0.9 * len(some):
            break
    return best


def _exchanged(
    reference: Frame, frame: Frame, sites: Sites, shift: Scalars, out: Indices, between: float
) -> Exchanged:
    chosen = out[_some(len(out), _SAMPLE)]
    places = frame.fractional[chosen] - shift
    near = sites.nearest(places, frame.cell)
    numbers, theirs = frame.topology.numbers, reference.topology.numbers
    on: Mask = (near.distance < _ON_SITE * between) & (near.atoms != chosen)
    equal = on & (theirs[near.atoms] == numbers[chosen])
    mates = sites.nearest(reference.fractional[chosen], reference.cell, skip=chosen).atoms
    moved = frame.fractional - reference.fractional
    apart = minimum_image(moved[chosen] - moved[mates], frame.topology.pbc) @ frame.cell
    together = (apart**2).sum(axis=1) < (_OUT * between) ** 2
    first = np.flatnonzero(on)[:3]
    return Exchanged(
        looked_at=len(chosen),
        on_equal=int(np.count_nonzero(equal)),
        on_other=int(np.count_nonzero(on & ~equal)),
        together=int(np.count_nonzero(together)),
        pairs=tuple((int(chosen[k]), int(near.atoms[k])) for k in first),
    )


def _scale(reference: Frame, frame: Frame, deformation: Deformation, between: float) -> float:
    """The ratio of `UNIT_ERRORS` that takes the reference's positions to these; 1 if none does."""
    some = _some(len(frame), _SAMPLE)
    rotated = deformation.rotate(reference.positions[some])
    for ratio in UNIT_ERRORS:
        apart = (frame.positions[some] - ratio * rotated) @ frame.inverse
        away = minimum_image(apart, frame.topology.pbc) @ frame.cell
        if np.median((away**2).sum(axis=1)) < (0.1 * between * min(ratio, 1.0)) ** 2:
            return ratio
    return 1.0


def _same_lattice(reference: Matrix, cell: Matrix, deformation: Deformation) -> bool:
    """Whether two cells that differ in shape span one lattice."""
    if np.abs(deformation.principal - 1.0).max() < 1e-3:
        return False
    if abs(float(np.prod(deformation.principal)) - 1.0) > 1e-4:
        return False
    try:
        one, other = (Cell(c).niggli_reduce()[0].cellpar() for c in (reference, cell))
    except RuntimeError:  # ASE gives up on cells that are nearly flat
        return False
    lengths = np.abs(one[:3] / other[:3] - 1.0).max() < 1e-4
    return bool(lengths and np.abs(one[3:] - other[3:]).max() < 1e-2)


def _some(count: int, most: int) -> Indices:
    """At most `most` of `count` indices, spread over all of them."""
    if count <= most:
        return np.arange(count)
    # random, because a regular choice may have the period of the file's order
    return np.unique(np.random.default_rng(count).integers(count, size=most))


def describe_cell(cell: Matrix) -> str:
    """Lengths and angles of a cell as text."""
    a, b, c, alpha, beta, gamma = Cell(cell).cellpar()
    return f"{a:.4f} {b:.4f} {c:.4f} Å, {alpha:.2f} {beta:.2f} {gamma:.2f}°"


def displacements(reference: Frame, frame: Frame, shift: Scalars) -> Vectors:
    """(N, 3) Å from the sites of the reference in the frame's cell, after a shift (fractions)."""
    apart = frame.fractional - reference.fractional - shift
    found: Vectors = minimum_image(apart, frame.topology.pbc) @ frame.cell
    return found
