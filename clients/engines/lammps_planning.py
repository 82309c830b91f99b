"""Whether the site energies of a LAMMPS potential can be weighted, and how.

A potential is divided into parts that can be. It is checked once, on a few atoms, that their sum is
what LAMMPS says of the plain potential and that forces are the gradient of the weighted energy.
Where they are not, the potential is not weighted at all. Knows no jobs or files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from clients.engines.lammps_carrier import carriers_of
from clients.engines.lammps_instance import Instance, Setup
from clients.engines.lammps_library import LammpsError, Library
from clients.engines.lammps_mpi import Order, Ranks
from clients.engines.lammps_parts import NoWay, parts_of
from clients.engines.lammps_snap import Way
from clients.engines.lammps_tables import curves_of
from clients.engines.lammps_weights import Plan, Weighted, energies_of
from mixserver.arrays import Vectors
from mixserver.errors import BadInput

_SAME: Final = 1e-8
"""eV/Å and eV, between the parts and the plain potential."""
_SLOPE: Final = 1e-3
"""Relative; splines of tables are no better, and a potential that is not pairwise is far worse."""
_STEP: Final = 1e-3


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
            check(plan)
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
        check(carried)
    except (LammpsError, BadInput, NoWay):
        return plan
    return carried


def check(plan: Plan) -> None:
    """Compare the weighted potential with the plain one on a few atoms.

    Raises:
        NoWay: they differ.
        LammpsError: LAMMPS refused.
    """
    order = _few_atoms(plan)
    plain = Instance(plan.setup, order, Ranks())
    try:
        expected = plain.evaluate(order)
        e = energies_of(expected)
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
            return float(mixed @ energies_of(plain.evaluate(replace(order, positions=positions))))

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
