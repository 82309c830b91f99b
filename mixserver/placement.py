"""How a frame lies against a reference structure of the same atoms.

Compared are the two cells (rotation and stretch, see `geometry.deformation`) and the fractional
coordinates after the best common shift. Atoms farther from their site than half the spacing are
*out of place*; whether those sit on sites of other atoms tells another order of the atoms from
atoms that moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.cell import Cell

from mixserver.arrays import Indices, Mask, Matrix, Scalars, Vectors
from mixserver.frame import Frame
from mixserver.geometry import Deformation
from mixserver.sites import Sites, typical_spacing, wrapped
from mixserver.units import BOHR

SCALES: Final = {
    1.0 / BOHR: "what i-PI takes as Å was read as bohr in the structure",
    BOHR: "what the structure has in Å i-PI reads as bohr",
    10.0: "what i-PI takes as nm was read as Å in the structure",
    0.1: "what the structure has in nm i-PI reads as Å",
}
"""Mistakes of units, by the ratio of i-PI's lengths to those of the structure."""
_SURE: Final = 0.35
"""Å; atoms nearer to their sites than this are on no other atom's site."""
_OUT: Final = 0.5
"""Spacings; beyond, an atom is out of place."""
_ON_SITE: Final = 0.3
"""Spacings; nearer, an atom is on a site."""
_SAMPLE: Final = 4096
"""Atoms that tell a common shift, and atoms out of place that are looked at."""
_TRIED: Final = 64
"""Atoms that try a common shift, and shifts that are tried."""


@dataclass(frozen=True)
class Exchanged:
    """Where the atoms that are out of place are instead."""

    looked_at: int
    """Atoms out of place that were looked up."""
    on_equal: int
    """Of these, how many are on the site of another atom of their element."""
    on_other: int
    """How many are on the site of an atom of another element."""
    together: int
    """How many moved as their nearest neighbour did, as in a block that glides."""
    pairs: tuple[tuple[int, int], ...]
    """The first few: (atom as i-PI counts, atom of the structure whose site it is on)."""


@dataclass(frozen=True)
class Placement:
    """A frame against its reference."""

    deformation: Deformation
    """From the reference's cell to the frame's."""
    shift: Scalars
    """(3,) Å, a translation of all atoms; displacements are measured after it."""
    rms: float
    """Å, root mean square of the displacements from the reference's sites."""
    largest: float
    """Å, the largest of them."""
    farthest: int
    """Which atom that is."""
    spacing: float
    """Å between nearest neighbours in the reference; 0 where it was not needed."""
    out: Indices
    """Atoms out of place."""
    exchanged: Exchanged | None
    """Where these are; None if there are none."""
    scale: float
    """Ratio of positions to those of the reference, where they are a mistake of units; else 1."""
    same_lattice: bool
    """Whether other vectors span the same lattice."""


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
    """(N,) Å, of the atoms from their sites."""
    moved = displacements(reference, frame, shift)
    distances: Scalars = np.sqrt(np.einsum("ij,ij->i", moved, moved))
    return distances


def _ordered_shift(reference: Frame, frame: Frame) -> Scalars:
    """(3,) fractions, by which all atoms are shifted if they kept their order."""
    some, pbc = _some(len(frame), _SAMPLE), frame.topology.pbc
    moved = frame.fractional[some] - reference.fractional[some]
    around = np.angle(np.exp(2j * np.pi * moved).mean(axis=0)) / (2.0 * np.pi)
    shift: Scalars = np.where(pbc, around, moved.mean(axis=0))
    return _centred(shift, wrapped(moved - shift, pbc), frame.cell)


def _centred(shift: Scalars, left: Vectors, cell: Matrix) -> Scalars:
    """A shift (fractions) made better by the median of what it leaves; rounding is no shift."""
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
    own = wrapped(frame.fractional[some] - reference.fractional[some] - ordered, pbc) @ frame.cell
    if 2 * np.count_nonzero((own**2).sum(axis=1) < reach**2) > len(some):
        return ordered  # in a perfect crystal others would put as many on sites of other atoms
    for shift in (np.zeros(3), ordered, *(probe - reference.fractional[starts])):
        places = frame.fractional[some] - shift
        near = sites.nearest(places, frame.cell)
        on = (near.distance < reach) & (theirs[near.atoms] == numbers[some])
        if (count := int(np.count_nonzero(on))) > most:
            left = wrapped(places[on] - reference.fractional[near.atoms[on]], pbc)
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
    apart = wrapped(moved[chosen] - moved[mates], frame.topology.pbc) @ frame.cell
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
    """A ratio of `SCALES` at which the positions are those of the reference; 1 if none is."""
    some = _some(len(frame), _SAMPLE)
    turned = deformation.turned(reference.positions[some])
    for ratio in SCALES:
        apart = (frame.positions[some] - ratio * turned) @ frame.inverse
        away = wrapped(apart, frame.topology.pbc) @ frame.cell
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
    """At most so many of `count` things, spread over all of them."""
    if count <= most:
        return np.arange(count)
    # at random: a regular choice may have the period of the file's order
    return np.unique(np.random.default_rng(count).integers(count, size=most))


def vectors(cell: Matrix) -> str:
    """A cell in words: lengths and angles."""
    a, b, c, alpha, beta, gamma = Cell(cell).cellpar()
    return f"{a:.4f} {b:.4f} {c:.4f} Å, {alpha:.2f} {beta:.2f} {gamma:.2f}°"


def displacements(reference: Frame, frame: Frame, shift: Scalars) -> Vectors:
    """(N, 3) Å from the sites of the reference in the frame's cell, after a shift (fractions)."""
    apart = frame.fractional - reference.fractional - shift
    found: Vectors = wrapped(apart, frame.topology.pbc) @ frame.cell
    return found
