"""Compares i-PI's positions with the reference structure of lambda, offsets and dead loads.

`mismatch` decides whether positions can be of the same system. `StructureComparison` calls it for
every frame that does not continue one compared before: at the first request, for every replica, and
after a reconnect with other positions. In between, only a few atoms are checked per request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import structlog
from ase.data import chemical_symbols

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.errors import UpstreamError
from mixserver.core.frame import Frame
from mixserver.geometry.placement import UNIT_ERRORS, Placement, compare, describe_cell

log = structlog.get_logger(__name__)

REMEDY: Final = (
    "Lambda, seeds, energy offsets and dead loads come from the structure: they would be wrong for "
    "this start. Make mix.toml's upstream.structure and what i-PI starts from the same structure, "
    'with the same units; if it is meant as it is, set upstream.mismatch = "warn"'
)
"""Follows the description of a mismatch."""
_STRETCH: Final = 1.25
"""A principal stretch beyond which a cell is another one, unless it got there step by step."""
_UNIT: Final = 0.03
"""Relative; how near to a mistake of units a ratio of lengths must be."""
_FEW: Final = 4
"""Atoms; fewer that exchanged their sites may have done so in a transition."""
_SHARE: Final = 0.1
"""Of an element's atoms; fewer that are on sites of others may have diffused there."""
_ON_SITES: Final = 0.8
"""Of the atoms out of place; in a liquid a sixth is on some site."""
_TOGETHER: Final = 0.75
"""Of the atoms out of place; if more moved as their neighbour did, a block has glided."""
_WATCHED: Final = 64
"""Atoms by which a frame is recognised as the next of one before."""
_STEP: Final = 1.0
"""Å, root of the summed squares of what these move in a step."""
_STRAIN: Final = 0.02
"""Largest strain of a cell in one step."""
_SWAPPED: Final = 4
"""Watched atoms that may have jumped: the two of an exchange taken back, and of the next one."""
_MOST: Final = 1024
"""Replicas that are tracked."""
_LOGGED: Final = 32
"""Comparisons that are logged; an optimiser may jump in every step."""


@dataclass(frozen=True, slots=True)
class ReferenceUse:
    """What the mixed potential depends on in the reference structure, besides the elements."""

    places: bool = True
    """Positions and cell: a fixed lambda, dead loads, energy offsets, bodies fixed in space."""
    order: bool = True
    """Which of several equal atoms is which: a lambda or seeds by index."""
    bodies: bool = False
    """Bodies fixed in space choose the region at every frame."""
    swaps: bool = False
    """i-PI may exchange atoms (atomswap): the energy knows their positions alone."""


def mismatch(placement: Placement, reference: Frame, frame: Frame, uses: ReferenceUse) -> str:
    """Why a frame cannot be one of the reference's system, or "".

    Another cell or unit is a mismatch if positions matter, equal atoms in another order if their
    order does, atoms on sites of another element always.
    """
    if uses.places:
        words = _cell_words(placement, reference.cell, frame.cell)
        if not words and placement.scale != 1.0:
            words = (
                f"i-PI's cell is that of the structure, but its positions are "
                f"{placement.scale:.4f} times as large: {UNIT_ERRORS[placement.scale]}"
            )
        if words:
            return words
    return _order_words(placement, frame, uses)


def _cell_words(placement: Placement, reference: Matrix, cell: Matrix) -> str:
    stretch = placement.deformation.principal
    both = f"i-PI's cell is {describe_cell(cell)}, that of the structure {describe_cell(reference)}"
    if placement.same_lattice:
        return (
            f"{both}: the same lattice, but other vectors span it, so fractions of the cell mean "
            "other places"
        )
    if stretch[0] > 1.0 / _STRETCH and stretch[2] < _STRETCH:
        return ""
    ratio = float(np.prod(stretch)) ** (1.0 / 3.0)
    if stretch[2] < (1.0 + _UNIT) * stretch[0]:
        for scale, words in UNIT_ERRORS.items():
            if abs(ratio / scale - 1.0) < _UNIT:
                return f"{both}: lengths are {ratio:.4f} times as large, so {words}"
        return f"{both}: lengths are {ratio:.4f} times as large, another volume"
    what = "another supercell" if abs(ratio - 1.0) < 0.01 else "another cell"
    low, high = stretch[0], stretch[2]
    return f"{both}: {what}, by factors from {low:.3f} to {high:.3f} along its principal axes"


def _order_words(placement: Placement, frame: Frame, uses: ReferenceUse) -> str:
    found = placement.exchanged
    if found is None or found.together >= _TOGETHER * found.looked_at:
        return ""
    if found.on_equal + found.on_other < _ON_SITES * found.looked_at:
        return ""
    # without the order of equal atoms, only those count that are on sites of other elements
    many = len(placement.out)
    if not uses.order:
        many = round(many * found.on_other / found.looked_at)
    numbers = frame.topology.numbers
    elements, counts = np.unique(numbers, return_counts=True)
    mine = np.array([np.count_nonzero(numbers[placement.out] == z) for z in elements])
    if many < _FEW or not (mine >= _SHARE * counts).any():
        return ""
    pairs = ", ".join(
        f"atom {i} ({chemical_symbols[numbers[i]]}) is where the structure has {j} "
        f"({chemical_symbols[numbers[j]]})"
        for i, j in found.pairs
    )
    other = found.on_other > 0.05 * found.looked_at
    what = "atoms, of other elements too," if other else "equal atoms"
    return (
        f"i-PI has {what} in another order than the structure, or its axes exchanged: "
        f"{len(placement.out)} of {len(frame)} atoms are not on their own site, and of these "
        f"{100 * (found.on_equal + found.on_other) // found.looked_at} % on the site of another: "
        f"{pairs}, ... (counted from 0); `mixserver reorder CASE -o FILE` writes the structure in "
        "i-PI's order"
    )


class StructureComparison:
    """Compares every frame that does not continue one that was compared before.

    Args:
        reference: the structure's positions, that lambda, offsets and dead loads come from.
        uses: what is taken from them.
        refuse: whether a mismatch ends the run; False logs it.
        resumed: whether a run continues whose start was compared: its atoms may have diffused and
            its cell changed, so nothing is refused.
    """

    def __init__(
        self, reference: Frame, uses: ReferenceUse, *, refuse: bool = True, resumed: bool = False
    ) -> None:
        self._reference = reference
        self._uses = uses
        self._refuse = refuse and not resumed
        self._resumed = resumed
        count = len(reference)
        chosen = np.random.default_rng(count).integers(count, size=_WATCHED)
        self._watched = np.unique(chosen) if count > _WATCHED else np.arange(count)
        self._tracks: list[_Track] = []
        self._last: _Track | None = None
        self.compared = 0
        """How many frames were compared."""

    def check(self, frame: Frame) -> None:
        """Compare a frame with the reference, unless it continues one that was compared.

        Raises:
            UpstreamError: it is another structure, in a way that makes results wrong.
        """
        places = frame.fractional.take(self._watched, axis=0)
        last = self._last
        if last is not None and last.followed.goes_on(places, frame):
            self._last = last.followed
            return
        now = next((one for one in reversed(self._tracks) if one.goes_on(places, frame)), None)
        if now is None:
            self._compare(frame)
            now = _Track(places, frame.cell, _SWAPPED if self._uses.swaps else 0)
            if len(self._tracks) >= _MOST:
                del self._tracks[0]
            self._tracks.append(now)
        if last is not None:
            last.followed = now
        self._last = now

    def _compare(self, frame: Frame) -> None:
        placement = compare(self._reference, frame)
        self.compared += 1
        words = mismatch(placement, self._reference, frame, self._uses)
        if words and self._refuse:
            raise UpstreamError(f"{words}. {REMEDY}")
        if words:
            log.warning(
                "i-PI's positions do not fit the structure",
                bead=frame.bead,
                why=words,
                continues="the run was compared at its start"
                if self._resumed
                else "mismatch = warn",
            )
        deformation = placement.deformation
        strain = float(np.abs(deformation.principal - 1.0).max())
        shift = float(np.linalg.norm(placement.shift))
        report = log.info if self.compared <= _LOGGED else log.debug
        report(
            "i-PI's positions compared with the structure",
            bead=frame.bead,
            cell_within_percent=round(100.0 * strain, 3),
            turned_degrees=round(deformation.angle, 4),
            mirrored=deformation.mirrored,
            shifted=round(shift, 4),
            rms_displacement=round(placement.rms, 4),
            largest_displacement=round(placement.largest, 4),
            of_atom=placement.farthest,
            out_of_place=len(placement.out),
        )
        if self._uses.bodies and shift > _STEP:
            log.warning(
                "the atoms are shifted against the structure, but the region is fixed in space",
                bead=frame.bead,
                shift=[round(x, 3) for x in placement.shift.tolist()],
            )


class _Track:
    """Where some atoms of a replica were last."""

    __slots__ = ("_jumping", "_metric", "_near", "_places", "_raw", "_slack", "followed")

    def __init__(self, places: Vectors, cell: Matrix, jumping: int = 0) -> None:
        self.followed = self
        """The track that followed this one the last time: replicas come in turn."""
        self._places = places
        self._jumping = min(jumping, len(places) // 4)
        self._raw = cell.tobytes()
        self._metric = cell @ cell.T
        size = np.sqrt(np.diag(self._metric))
        self._slack = 2.0 * _STRAIN * np.outer(size, size)
        self._near = _STEP**2 / float(np.linalg.eigvalsh(self._metric)[2])

    def goes_on(self, places: Vectors, frame: Frame) -> bool:
        """Whether these places and cell are a step away; they are remembered then."""
        moved = (places - self._places).ravel()
        if not moved.dot(moved) < self._near:
            moved -= np.rint(moved)  # wrapped, as some upstreams do in between
            if not moved.dot(moved) < self._near and not self._jumped(moved):
                return False
        raw = frame.cell.tobytes()
        if raw != self._raw:
            metric = frame.cell @ frame.cell.T
            if not (np.abs(metric - self._metric) < self._slack).all():
                return False
            self._raw, self._metric = raw, metric
        self._places = places
        return True

    def _jumped(self, moved: Scalars) -> bool:
        """Whether all but the few atoms that may jump are a step away."""
        if not self._jumping:
            return False
        squares = (moved * moved).reshape(-1, 3).sum(axis=1)
        return bool(np.sort(squares)[: -self._jumping].sum() < self._near)
