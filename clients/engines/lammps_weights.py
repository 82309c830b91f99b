"""Weighted site energies of a LAMMPS potential: E = sum_i w_i e_i, its gradient and virial.

Holds the parts of a potential together, and checks once, on a few atoms, that their sum is what
LAMMPS says of the plain potential and that forces are the gradient of the weighted energy. Where
they are not, the potential is not weighted at all. Knows no jobs or files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clients.engines.lammps_carried import CarrierPart, TooClose, different
from clients.engines.lammps_carrier import Carrier, carriers_of
from clients.engines.lammps_instance import Evaluated, Instance, Setup
from clients.engines.lammps_library import LammpsError, Library
from clients.engines.lammps_mpi import Order, Ranks
from clients.engines.lammps_pairwise import PairPart
from clients.engines.lammps_parts import NoWay, Parts, parts_of
from clients.engines.lammps_snap import SnapPart, Way, weights_of
from clients.engines.lammps_tables import Curve, curves_of
from clients.engines.lammps_types import Crowded
from mixserver.arrays import Numbers, Scalars, Vectors
from mixserver.errors import BadInput

_GEOMETRIC: Final = frozenset(
    {"coord/atom", "centro/atom", "cna/atom", "cnp/atom", "ackland/atom", "cluster/atom"}
    | {"entropy/atom", "voronoi/atom", "contact/atom"}
)
"""Criteria that look at positions only; others need the plain potential."""
MOST_WEIGHTS: Final = 1200
"""Different weights in one pass. LAMMPS's tables take 100 bytes per pair of atom types."""
_SAME: Final = 1e-8
"""eV/Å and eV, between the parts and the plain potential."""
_SLOPE: Final = 1e-3
"""Relative; splines of tables are no better, and a potential that is not pairwise is far worse."""
_STEP: Final = 1e-3
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
        snaps = (one for passes in self._snaps for one in passes)
        for one in (*snaps, *self._carried, self._pairs, *self._observers.values()):
            if one is not None:
                one.close()
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
        try:
            found = self._snapped(bare)
        except Crowded:
            self._make_snaps(bare)
            found = self._snapped(bare)
        found += self._paired(bare)
        energies: Scalars | None = None
        if order.energies:
            energies = np.sum([_energies(one) for one in found], axis=0)
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
        for one in (one for passes in self._snaps for one in passes):
            one.close()
        self._snaps = []
        plan, self._edges = self._plan, _edges(weights_of(order))
        for snap in plan.parts.snaps:
            self._snaps.append([])
            for share in self._shares(order):
                one = SnapPart(plan.setup, snap, plan.way, plan.cutoff, share, self._ranks)
                self._snaps[-1].append(one)

    def _snapped(self, order: Order) -> list[Evaluated]:
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
        try:
            if self._carried:
                return [one.evaluate(order) for one in self._carried]
        except Crowded:
            pass
        self._make_carried(order)
        return [one.evaluate(order) for one in self._carried]

    def _are_carried(self, order: Order) -> bool:
        """Whether there are carriers, and atom types enough for these weights."""
        if not self._plan.carriers:
            return False
        return sum(different(order.numbers, weights_of(order), self._plan.setup.numbers)) <= (
            MOST_WEIGHTS
        )

    def _make_carried(self, order: Order) -> None:
        """Make carriers with room for these weights, and no more than needed."""
        for one in self._carried:
            one.close()
        self._carried = []
        for carrier in self._plan.carriers:
            self._carried.append(CarrierPart(self._plan.setup, carrier, order, self._ranks))

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


def plan_weights(setup: Setup, cutoff: float | None) -> Plan:
    """Find a way to weight the site energies of a potential, and check it. One rank alone.

    Raises:
        NoWay: there is none, and why.
    """
    if not setup.site_energies:
        raise NoWay("LAMMPS gives no site energies for it")
    if cutoff is None:
        raise NoWay("LAMMPS does not say how far it looks")
    library = Library(["-log", "none", *setup.arguments])
    try:
        parts = parts_of(
            setup.after_box, len(setup.numbers), lambda word: library.has_style("pair", word)
        )
    finally:
        library.close()
    reasons: list[str] = []
    ways: tuple[Way, ...] = ("scale", "coefficients") if parts.snaps else ("scale",)
    for way in ways:
        try:
            curves = curves_of(setup, parts.pairwise or (), cutoff)
            plan = Plan(setup, parts, cutoff, way, curves)
            _check(plan)
            return _with_carriers(plan)
        except LammpsError as error:
            reasons.append(f"LAMMPS says: {error}")
        except (BadInput, NoWay) as error:
            reasons.append(str(error))
    raise NoWay(reasons[0])


def _with_carriers(plan: Plan) -> Plan:
    """The same plan with carriers of its pairwise part, if they are exact."""
    carried = replace(
        plan, carriers=carriers_of(plan.setup, plan.parts.pairwise or (), plan.cutoff)
    )
    try:
        _check(carried)
    except (LammpsError, BadInput, NoWay):
        return plan
    return carried


def _check(plan: Plan) -> None:
    """Compare with the plain potential on a few atoms.

    Raises:
        NoWay: they differ.
        LammpsError: LAMMPS refused.
    """
    order = _few_atoms(plan)
    plain = Instance(plan.setup, order, Ranks())
    try:
        expected = plain.evaluate(order)
        e = _energies(expected)
        dice = np.random.default_rng(4)
        mixed = dice.random(len(e))
        mixed[::4], mixed[1::4] = 0.0, 1.0
        scale = max(1.0, float(np.abs(expected.forces).max()))
        weighted = Weighted(plan, replace(order, weight=mixed), Ranks())
        try:
            ones = weighted.evaluate(replace(order, weight=np.ones(len(e))))
            some = weighted.evaluate(replace(order, weight=mixed))
        finally:
            weighted.close()
        compared: list[tuple[str, object, object]] = [
            ("energy", ones.energy, expected.energy),
            ("site energies", ones.energies, e),
            ("weighted energy", some.energy, float(mixed @ e)),
        ]
        if not plan.curves:
            compared.append(("forces", ones.forces, expected.forces))
            compared.append(("virial", ones.virial, expected.virial))
        for what, got, right in compared:
            apart = float(np.abs(np.asarray(got) - np.asarray(right)).max())
            if not apart <= _SAME * scale * len(e):
                raise NoWay(
                    f"the {what} of its SNAPs and pairs add up to something else, off by "
                    f"{apart:.2g} (eV, Å): it is not pairwise apart from SNAP, or this build of "
                    "LAMMPS cannot"
                )

        def energy(positions: Vectors) -> float:
            return float(mixed @ _energies(plain.evaluate(replace(order, positions=positions))))

        for atom in range(3):
            along = np.zeros_like(order.positions)
            along[atom, atom] = _STEP
            slope = energy(order.positions + along) - energy(order.positions - along)
            apart = abs(float(some.forces[atom, atom]) + slope / (2.0 * _STEP))
            if not apart <= _SLOPE * scale:
                raise NoWay(
                    f"forces would not be the gradient of weighted site energies, by {apart:.2g} "
                    "eV/Å: apart from SNAP it is not pairwise"
                )
    finally:
        plain.close()


def _energies(found: Evaluated) -> Scalars:
    if found.energies is None:
        raise NoWay("LAMMPS gives no site energies for it")
    return found.energies


def _few_atoms(plan: Plan) -> Order:
    """A cluster of all elements, close enough for each atom to see several others."""
    numbers = plan.setup.numbers
    n = 12 * len(numbers)
    spacing = min(2.7, 0.6 * plan.cutoff)
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 2, np.arange(float(n)), indexing="ij"), -1)
    sites = grid.transpose(2, 0, 1, 3).reshape(-1, 3)[:n]
    dice = np.random.default_rng(3)
    return Order(
        stream=0,
        positions=spacing * (sites + dice.uniform(-0.06, 0.06, sites.shape)),
        numbers=dice.permutation(np.resize(np.array(numbers, np.int32), n)),
        cell=np.eye(3) * (40.0 + spacing * n),
        pbc=(True, True, True),
        energies=True,
        criterion="",
    )
