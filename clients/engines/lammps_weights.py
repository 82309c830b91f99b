"""Weighted site energies of a LAMMPS potential: E = sum_i w_i e_i, its gradient and virial.

Holds the parts of a potential together, and makes them anew where weights need more atom types, or
far fewer. Whether a potential has such parts is for `lammps_planning`. Knows no jobs or files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clients.engines.lammps_carried import CarrierPart, TooClose, different
from clients.engines.lammps_carrier import Carrier
from clients.engines.lammps_instance import Evaluated, Instance, Setup
from clients.engines.lammps_mpi import Order, Ranks
from clients.engines.lammps_pairwise import PairPart
from clients.engines.lammps_parts import NoWay, Parts
from clients.engines.lammps_snap import SnapPart, Way, weights_of
from clients.engines.lammps_tables import Curve
from clients.engines.lammps_types import Crowded, Slack
from mixserver.arrays import Numbers, Scalars

_GEOMETRIC: Final = frozenset(
    {"coord/atom", "centro/atom", "cna/atom", "cnp/atom", "ackland/atom", "cluster/atom"}
    | {"entropy/atom", "voronoi/atom", "contact/atom"}
)
"""Criteria that look at positions only; others need the plain potential."""
MOST_WEIGHTS: Final = 1200
"""Different weights in one pass. LAMMPS's tables take 100 bytes per pair of atom types."""
_REST: Final = 50
"""Evaluations with listed pairs after atoms have been closer than the carriers reach."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the site energies of a potential are weighted."""

    setup: Setup
    """Of the plain potential."""
    parts: Parts
    cutoff: float
    """Å, of the plain potential."""
    way: Way = "scale"
    """How LAMMPS gets the weights of SNAPs."""
    curves: tuple[Curve, ...] = ()
    """Pairs whose forces in LAMMPS are not the gradient of their energies; here they are."""
    carriers: tuple[Carrier, ...] = ()
    """The pairwise part as potentials that LAMMPS can weight itself; empty if there are none."""


class Weighted:
    """One set of atoms, in as many LAMMPS instances as the potential has parts.

    Args:
        plan: the potential.
        order: the first evaluation, with weights.
        ranks: who evaluates; all of them construct it and call `evaluate` together.

    Raises:
        BadInput: atoms on top of each other.
        LammpsError: LAMMPS refused.
    """

    lean: Final = True

    def __init__(self, plan: Plan, order: Order, ranks: Ranks) -> None:
        self.numbers: Numbers = order.numbers.copy()
        self.pbc = order.pbc
        self._plan, self._ranks = plan, ranks
        self._snaps: list[list[SnapPart]] = []
        self._edges: NDArray[np.intp] = np.zeros(0, np.intp)
        self._carried: list[CarrierPart] = []
        self._slack, self._carried_slack = Slack(), Slack()
        self._pairs: PairPart | None = None
        self._resting = 0
        self._observers: dict[bool, Instance] = {}
        try:
            self._make_snaps(order)
            if self._are_carried(order):
                self._make_carried(order)
            elif plan.parts.pairwise is not None:
                self._listed(order)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all LAMMPS instances."""
        _close(one for passes in self._snaps for one in passes)
        _close([*self._carried, *self._observers.values()])
        if self._pairs is not None:
            self._pairs.close()
        self._snaps, self._carried, self._pairs, self._observers = [], [], None, {}

    def evaluate(self, order: Order) -> Evaluated:
        """Evaluate positions and weights of the same atoms.

        Raises:
            BadInput: atoms on top of each other, or a criterion LAMMPS refuses.
            LostAtoms: use a fresh instance.
            LammpsError: LAMMPS refused.
        """
        values = self._observed(order).values if order.criterion else None
        bare = replace(order, criterion="")
        found = self._snapped(bare)
        found += self._paired(bare)
        energies: Scalars | None = None
        if order.energies:
            energies = np.sum([energies_of(one) for one in found], axis=0)
            energies[weights_of(order) == 0.0] = 0.0
        return Evaluated(
            energy=sum(one.energy for one in found),
            forces=np.sum([one.forces for one in found], axis=0),
            virial=np.sum([one.virial for one in found], axis=0),
            energies=energies,
            values=values,
        )

    def _make_snaps(self, order: Order) -> None:
        """Make instances with room for these weights, and no more than needed in each."""
        old, self._snaps = self._snaps, []
        _close(one for passes in old for one in passes)
        plan, self._edges = self._plan, _edges(weights_of(order))
        made: list[list[SnapPart]] = []
        try:
            for snap in plan.parts.snaps:
                made.append([])
                for share in self._shares(order):
                    one = SnapPart(plan.setup, snap, plan.way, plan.cutoff, share, self._ranks)
                    made[-1].append(one)
        except BaseException:
            _close(one for passes in made for one in passes)
            raise
        self._snaps, self._slack = made, Slack()

    def _snapped(self, order: Order) -> list[Evaluated]:
        """The SNAPs, with more atom types or far fewer if these weights need them."""
        # they are missing where they could not be made for the positions before
        if self._slack.long or len(self._snaps) < len(self._plan.parts.snaps):
            self._make_snaps(order)
        try:
            found = self._each_snap(order)
        except Crowded:
            self._make_snaps(order)
            found = self._each_snap(order)
        parts = [one for passes in self._snaps for one in passes]
        wanted = sum(one.wanted for one in parts)
        if len(self._edges) > 2 and len(_edges(weights_of(order))) == 2:
            wanted = 0  # one pass would do
        self._slack.note(sum(one.room for one in parts), wanted)
        return found

    def _each_snap(self, order: Order) -> list[Evaluated]:
        shares = self._shares(order)
        return [
            one.evaluate(share)
            for passes in self._snaps
            for one, share in zip(passes, shares, strict=True)
        ]

    def _paired(self, order: Order) -> list[Evaluated]:
        """The pairwise part: by LAMMPS alone where that is possible."""
        if self._plan.parts.pairwise is None:
            return []
        if self._resting:
            self._resting -= 1
        elif self._are_carried(order):
            try:
                return self._by_carriers(order)
            except TooClose:
                self._resting = _REST
        return [self._listed(order).evaluate(order)]

    def _by_carriers(self, order: Order) -> list[Evaluated]:
        if self._carried_slack.long or not self._carried:
            self._make_carried(order)
        try:
            found = [one.evaluate(order) for one in self._carried]
        except Crowded:
            self._make_carried(order)
            found = [one.evaluate(order) for one in self._carried]
        room, wanted = (one.room for one in self._carried), (one.wanted for one in self._carried)
        self._carried_slack.note(sum(room), sum(wanted))
        return found

    def _are_carried(self, order: Order) -> bool:
        """Whether there are carriers, and atom types enough for these weights."""
        if not self._plan.carriers:
            return False
        return sum(different(order.numbers, weights_of(order), self._plan.setup.numbers)) <= (
            MOST_WEIGHTS
        )

    def _make_carried(self, order: Order) -> None:
        """Make carriers with room for these weights, and no more than needed."""
        old, self._carried = self._carried, []
        _close(old)
        made: list[CarrierPart] = []
        try:
            for carrier in self._plan.carriers:
                one = CarrierPart(self._plan.setup, carrier, order, self._ranks)
                made.append(one)
        except BaseException:
            _close(made)
            raise
        self._carried, self._carried_slack = made, Slack()

    def _listed(self, order: Order) -> PairPart:
        """The pairwise part by lists of pairs, made when it is first needed."""
        if self._pairs is None:
            plan = self._plan
            commands = plan.parts.pairwise or ()
            self._pairs = PairPart(plan.setup, commands, plan.curves, order, self._ranks)
        return self._pairs

    def _shares(self, order: Order) -> list[Order]:
        """The weights in several passes that add up to them, if there are very many."""
        if len(self._edges) == 2:
            return [order]
        weights = weights_of(order)
        rank = np.searchsorted(self._edges, np.arange(len(weights)), side="right") - 1
        rank[weights == 1.0] = 0
        return [
            replace(order, weight=np.where(rank == k, weights, 0.0))
            for k in range(len(self._edges) - 1)
        ]

    def _observed(self, order: Order) -> Evaluated:
        """The criterion's values, which must not depend on weights."""
        geometric = order.criterion.split()[0] in _GEOMETRIC
        setup = self._plan.setup
        if geometric:
            text = (f"pair_style zero {self._plan.cutoff!r}", "pair_coeff * *")
            kept = tuple(line for line in setup.after_box if not line.startswith("pair_"))
            setup = replace(setup, after_box=(*kept, *text))
        if geometric not in self._observers:
            self._observers[geometric] = Instance(setup, order, self._ranks)
        return self._observers[geometric].evaluate(replace(order, energies=False, weight=None))


def _edges(weights: Scalars) -> NDArray[np.intp]:
    """Atoms at which one pass ends and the next begins, by the number of different weights."""
    other = np.flatnonzero((weights != 0.0) & (weights != 1.0))
    different = len(np.unique(weights[other]))
    passes = 1 if different <= MOST_WEIGHTS else -(-len(other) // int(0.8 * MOST_WEIGHTS))
    inner = other[[k * len(other) // passes for k in range(1, passes)]]
    return np.array([0, *inner, len(weights)], np.intp)


def _close(parts: Iterable[Instance]) -> None:
    for one in parts:
        one.close()


def energies_of(found: Evaluated) -> Scalars:
    """Site energies, eV.

    Raises:
        NoWay: LAMMPS gives none.
    """
    if found.energies is None:
        raise NoWay("LAMMPS gives no site energies for it")
    return found.energies
