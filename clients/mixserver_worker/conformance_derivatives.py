"""Conformance of forces, virials, site energies and site weights.

All belong to one potential energy, sum of w_i e_i.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mixserver.core.arrays import Matrix
from mixserver.core.finite_difference import STENCIL, central_slope
from mixserver.core.strain import VOIGT, stress_to_voigt, unit_strain
from mixserver_worker.conformance_cases import (
    System,
    Tolerance,
    allowed_difference,
    evaluate,
    random_weights,
    require,
    require_close,
    require_same,
    site_energies,
)
from mixserver_worker.engine import Engine


def check_forces(engine: Engine, system: System, tolerance: Tolerance, count: int = 6) -> None:
    """Forces are -dE/dr, with random site weights if the engine takes them."""
    weight = random_weights(engine, system)
    answer = evaluate(engine, system, weight=weight)
    scale = max(1.0, float(np.abs(answer.forces).max()))
    rng = np.random.default_rng(2)
    for _ in range(count):
        atom, axis = int(rng.integers(len(system))), int(rng.integers(3))

        def energy(move: float, atom: int = atom, axis: int = axis) -> float:
            moved = system.positions.copy()
            moved[atom, axis] += move
            return evaluate(engine, replace(system, positions=moved), weight=weight).energy

        expected = -slope(energy, tolerance.step)
        got = float(answer.forces[atom, axis])
        require(
            abs(got - expected) <= tolerance.difference * scale,
            f"force {got:.9g} eV/Å on atom {atom} along {'xyz'[axis]}, but -dE/dr = {expected:.9g}",
        )


def check_virial(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """The virial is -dE/dstrain, all six components (those along periodic axes or not)."""
    weight = random_weights(engine, system)
    answer = evaluate(engine, system, weight=weight)
    scale = max(1.0, float(np.abs(answer.forces).max())) * len(system)
    for kind, got in zip(VOIGT, stress_to_voigt(answer.virial).tolist(), strict=True):
        strain = unit_strain(kind)

        def energy(size: float, strain: Matrix = strain) -> float:
            by = np.eye(3) + size * strain
            strained = replace(system, positions=system.positions @ by, cell=system.cell @ by)
            return evaluate(engine, strained, weight=weight).energy

        expected = -slope(energy, 0.2 * tolerance.step)
        require(
            abs(got - expected) <= tolerance.difference * scale,
            f"virial {got:.9g} eV at {kind}, but -dE/dstrain = {expected:.9g}",
        )


def check_site_energies(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """Site energies add up to the energy, and with site weights to w . e."""
    if not engine.card.energies:
        return
    answer = evaluate(engine, system)
    energies = site_energies(answer)
    require_close(
        answer.energy, energies.sum(), tolerance.same * len(system), "sum of site energies"
    )
    weight = random_weights(engine, system)
    if weight is not None:
        weighted = evaluate(engine, system, weight=weight)
        expected = weight @ energies
        require_close(weighted.energy, expected, tolerance.same * len(system), "sum of w_i e_i")
        asked = weight != 0.0  # others may be left out
        require_close(
            site_energies(weighted)[asked],
            energies[asked],
            tolerance.same * 10,
            "unweighted site energies",
        )


def check_weights(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """Energy, forces and virial are linear in the weights, and zero weights give exact zeros."""
    if not engine.card.weights:
        return
    rng = np.random.default_rng(5)
    one, two = rng.random(len(system)), rng.random(len(system))
    one[rng.random(len(system)) < 0.5] = 0.0
    a, b, plain = (evaluate(engine, system, weight=w) for w in (one, two, None))
    both = evaluate(engine, system, weight=0.5 * one + 0.25 * two)
    for name, got, expected in (
        ("energy", both.energy, 0.5 * a.energy + 0.25 * b.energy),
        ("forces", both.forces, 0.5 * a.forces + 0.25 * b.forces),
        ("virial", both.virial, 0.5 * a.virial + 0.25 * b.virial),
    ):
        require_close(
            got, expected, allowed_difference(tolerance, plain), f"{name} of 0.5 u + 0.25 v"
        )
    require_same(
        evaluate(engine, system, weight=np.ones(len(system))), plain, tolerance, "weights of 1"
    )
    none = evaluate(engine, system, weight=np.zeros(len(system)))
    worst = max(abs(none.energy), np.abs(none.forces).max(), np.abs(none.virial).max())
    require(worst == 0.0, f"all weights are 0 but something is {worst:.3g}")


def check_wanted(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """Site energies wanted where w = 0 are returned, and such sites change nothing else."""
    if not (engine.card.weights and engine.card.energies):
        return
    n = len(system)
    plain = evaluate(engine, system)
    rng = np.random.default_rng(13)
    some = rng.random(n)
    some[rng.random(n) < 0.5] = 0.0
    few = np.zeros(n)
    few[: min(2, n)] = (0.5, 1.0)[:n]
    for name, weight in (("some", some), ("few", few), ("no", np.zeros(n))):
        wanted = (weight == 0.0) & (rng.random(n) < 0.7)
        case = f"energies wanted, {name} weights"
        alone = evaluate(engine, system, weight=weight)
        asked = evaluate(engine, system, weight=weight, wanted=wanted)
        given = wanted | (weight != 0.0)
        require_close(
            site_energies(asked)[given], site_energies(plain)[given], 10 * tolerance.same, case
        )
        without = replace(alone, energies=asked.energies)
        require_same(asked, without, tolerance, case)
        if not weight.any():
            worst = max(abs(asked.energy), np.abs(asked.forces).max(), np.abs(asked.virial).max())
            require(worst == 0.0, f"{case}: all weights are 0 but something is {worst:.3g}")


def slope(energy: Callable[[float], float], step: float) -> float:
    """dE/dx at 0, with an error of fourth order in the step."""
    return central_slope([energy(n * step) for n in STENCIL], step)
