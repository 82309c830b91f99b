"""The conformance suite: what every engine must keep, measured on a system of your choice.

`check_engine(engine, System(...))` runs all checks; each is also a function of its own. They need
NumPy only, work with any test runner, and raise `ConformanceError` with the numbers. What a model
predicts is not judged; that its answers belong to one potential energy is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from clients.engine import Answer, Engine
from clients.verdict import (
    ConformanceError,
    HasAtoms,
    System,
    Tolerance,
    demand,
    evaluate,
    near,
    room,
    same_as,
)
from mixserver.arrays import Indices, Scalars
from mixserver.errors import BadInput

__all__ = [
    "ConformanceError",
    "System",
    "Tolerance",
    "check_criterion",
    "check_engine",
    "check_forces",
    "check_invariance",
    "check_memory",
    "check_one_atom",
    "check_refusals",
    "check_site_energies",
    "check_virial",
    "check_wanted",
    "check_weights",
    "evaluate",
    "same_as",
]


def check_forces(engine: Engine, system: System, tolerance: Tolerance, count: int = 6) -> None:
    """Forces are -dE/dr, with random site weights if the engine takes them."""
    weight = _weights(engine, system)
    answer = evaluate(engine, system, weight=weight)
    scale = max(1.0, float(np.abs(answer.forces).max()))
    dice = np.random.default_rng(2)
    for _ in range(count):
        atom, axis = int(dice.integers(len(system))), int(dice.integers(3))

        def energy(move: float, atom: int = atom, axis: int = axis) -> float:
            moved = system.positions.copy()
            moved[atom, axis] += move
            return evaluate(engine, replace(system, positions=moved), weight=weight).energy

        expected = -_slope(energy, tolerance.step)
        got = float(answer.forces[atom, axis])
        demand(
            abs(got - expected) <= tolerance.difference * scale,
            f"force {got:.9g} eV/Å on atom {atom} along {'xyz'[axis]}, but -dE/dr = {expected:.9g}",
        )


def check_virial(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """The virial is -dE/dstrain, all six components (those along periodic axes or not)."""
    weight = _weights(engine, system)
    answer = evaluate(engine, system, weight=weight)
    scale = max(1.0, float(np.abs(answer.forces).max())) * len(system)
    for row, column in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):

        def energy(size: float, row: int = row, column: int = column) -> float:
            strain = np.eye(3)
            strain[row, column] += size / 2
            strain[column, row] += size / 2
            strained = replace(
                system, positions=system.positions @ strain, cell=system.cell @ strain
            )
            return evaluate(engine, strained, weight=weight).energy

        expected = -_slope(energy, 0.2 * tolerance.step)
        got = float(answer.virial[row, column])
        demand(
            abs(got - expected) <= tolerance.difference * scale,
            f"virial {got:.9g} eV at ({row}, {column}), but -dE/dstrain = {expected:.9g}",
        )


def check_site_energies(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """The unweighted site energies add up to the unweighted energy; weights enter as w . e."""
    if not engine.card.energies:
        return
    answer = evaluate(engine, system)
    energies = _energies(answer)
    near(answer.energy, energies.sum(), tolerance.same * len(system), "sum of site energies")
    weight = _weights(engine, system)
    if weight is not None:
        weighted = evaluate(engine, system, weight=weight)
        expected = weight @ energies
        near(weighted.energy, expected, tolerance.same * len(system), "sum of w_i e_i")
        asked = weight != 0.0  # others may be left out: nobody needs them
        near(
            _energies(weighted)[asked],
            energies[asked],
            tolerance.same * 10,
            "unweighted site energies",
        )


def check_weights(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """Energy, forces and virial are linear in the weights, and zero weights give exact zeros."""
    if not engine.card.weights:
        return
    dice = np.random.default_rng(5)
    one, two = dice.random(len(system)), dice.random(len(system))
    one[dice.random(len(system)) < 0.5] = 0.0
    a, b, plain = (evaluate(engine, system, weight=w) for w in (one, two, None))
    both = evaluate(engine, system, weight=0.5 * one + 0.25 * two)
    for name, got, expected in (
        ("energy", both.energy, 0.5 * a.energy + 0.25 * b.energy),
        ("forces", both.forces, 0.5 * a.forces + 0.25 * b.forces),
        ("virial", both.virial, 0.5 * a.virial + 0.25 * b.virial),
    ):
        near(got, expected, room(tolerance, plain), f"{name} of 0.5 u + 0.25 v")
    same_as(evaluate(engine, system, weight=np.ones(len(system))), plain, tolerance, "weights of 1")
    none = evaluate(engine, system, weight=np.zeros(len(system)))
    worst = max(abs(none.energy), np.abs(none.forces).max(), np.abs(none.virial).max())
    demand(worst == 0.0, f"all weights are 0 but something is {worst:.3g}")


def check_wanted(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """Site energies that are wanted where w = 0 are given, and such sites change nothing else."""
    if not (engine.card.weights and engine.card.energies):
        return
    n = len(system)
    plain = evaluate(engine, system)
    dice = np.random.default_rng(13)
    some = dice.random(n)
    some[dice.random(n) < 0.5] = 0.0
    few = np.zeros(n)
    few[: min(2, n)] = (0.5, 1.0)[:n]
    for name, weight in (("some", some), ("few", few), ("no", np.zeros(n))):
        wanted = (weight == 0.0) & (dice.random(n) < 0.7)
        case = f"energies wanted, {name} weights"
        alone = evaluate(engine, system, weight=weight)
        asked = evaluate(engine, system, weight=weight, wanted=wanted)
        given = wanted | (weight != 0.0)
        near(_energies(asked)[given], _energies(plain)[given], 10 * tolerance.same, case)
        without = replace(alone, energies=asked.energies)
        same_as(asked, without, tolerance, case)
        if not weight.any():
            worst = max(abs(asked.energy), np.abs(asked.forces).max(), np.abs(asked.virial).max())
            demand(worst == 0.0, f"{case}: all weights are 0 but something is {worst:.3g}")


def check_invariance(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """Lattice translations, far shifts, another order, rotation, mirrored cells: one answer."""
    weight = _weights(engine, system)
    plain = evaluate(engine, system, weight=weight, stream=1)
    dice = np.random.default_rng(7)
    jumps = dice.integers(-3, 4, (len(system), 3)) * np.asarray(system.pbc)
    far = jumps + np.array([57, -31, 100]) * np.asarray(system.pbc)
    for name, shift in (
        ("single atoms moved by lattice vectors", jumps @ system.cell),
        ("all far outside the cell", far @ system.cell),
        ("everything shifted", np.array([[0.37, -11.1, 5.2]])),
    ):
        moved = replace(system, positions=system.positions + shift)
        same_as(evaluate(engine, moved, weight=weight, stream=1), plain, tolerance, name)

    order = dice.permutation(len(system))
    shuffled = replace(system, positions=system.positions[order], numbers=system.numbers[order])
    answer = evaluate(engine, shuffled, weight=None if weight is None else weight[order], stream=1)
    same_as(answer, _picked(plain, order), tolerance, "the atoms in another order")

    turn = np.linalg.qr(dice.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    turned = replace(system, positions=system.positions @ turn, cell=system.cell @ turn)
    expected = replace(plain, forces=plain.forces @ turn, virial=turn.T @ plain.virial @ turn)
    answer = evaluate(engine, turned, weight=weight, stream=1)
    same_as(answer, expected, tolerance, "everything rotated")

    a, b, c = system.pbc
    swapped = replace(system, cell=system.cell[[1, 0, 2]], pbc=(b, a, c))
    answer = evaluate(engine, swapped, weight=weight, stream=1)
    same_as(answer, plain, tolerance, "two lattice vectors swapped (other handedness)")
    if a and b:
        tilted = system.cell.copy()
        tilted[1] += 2 * tilted[0]
        answer = evaluate(engine, replace(system, cell=tilted), weight=weight, stream=1)
        same_as(answer, plain, tolerance, "the same lattice, strongly tilted")


def check_memory(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """What was evaluated before changes nothing: other streams, small steps, jumps, fewer atoms."""
    dice = np.random.default_rng(11)
    first = evaluate(engine, system, stream=3)
    fewer = replace(system, positions=system.positions[1:], numbers=system.numbers[1:])
    steps = dice.normal(scale=0.02, size=(12, len(system), 3)).cumsum(axis=0)
    jump = dice.normal(scale=0.3, size=(len(system), 3))
    stretched = replace(system, positions=system.positions * 1.02, cell=system.cell * 1.02)
    others = [(fewer, 4), (fewer, 3), (stretched, 3), (stretched, 4)] if len(fewer) else []
    others += [(replace(system, positions=system.positions + move), 3) for move in (*steps, jump)]
    for other, stream in others:
        evaluate(engine, other, stream=stream)
        same_as(evaluate(engine, system, stream=3), first, tolerance, "A, then others, then A")


def check_one_atom(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """A single atom works; by symmetry it feels no force."""
    one = replace(system, positions=system.positions[:1], numbers=system.numbers[:1])
    answer = evaluate(engine, one)
    near(answer.forces, 0.0, tolerance.difference, "forces on a single atom")


def check_refusals(engine: Engine, system: System) -> None:
    """NaN positions and unknown elements are refused with BadInput, and the engine lives on."""
    broken = system.positions.copy()
    broken[-1, 1] = np.nan
    _refused(engine, replace(system, positions=broken), "a NaN position")
    species = engine.card.species
    if species is not None:
        numbers = system.numbers.copy()
        numbers[0] = next(z for z in range(1, 119) if z not in species)
        _refused(engine, replace(system, numbers=numbers), f"element {numbers[0]}")
    evaluate(engine, system)


def check_criterion(engine: Engine, system: System, cutoff: float = 2.9) -> None:
    """Neighbours within the cutoff are counted right (against a sum over images); junk refused."""
    if not engine.card.criteria:
        return
    got = evaluate(engine, system, criterion=f"coord/atom cutoff {cutoff}").values
    reach = np.ceil(cutoff * np.linalg.norm(np.linalg.pinv(system.cell), axis=0)).astype(int) + 1
    ranges = [range(-n, n + 1) if p else range(1) for n, p in zip(reach, system.pbc, strict=True)]
    fraction = np.floor(system.positions @ np.linalg.pinv(system.cell)) * np.asarray(system.pbc)
    inside = system.positions - fraction @ system.cell
    expected = np.full(len(system), -1.0)  # every atom finds itself once
    for image in itertools.product(*ranges):
        apart = inside[None] + np.array(image) @ system.cell - inside[:, None]
        expected += (np.linalg.norm(apart, axis=2) < cutoff).sum(axis=1)
    wrong = int(np.count_nonzero(np.asarray(got) != expected))
    demand(wrong == 0, f"coord/atom cutoff {cutoff}: {wrong} atoms have another count")
    _refused(engine, system, "an unknown criterion", criterion="no-such-compute/atom 3.0")


def check_engine(
    engine: Engine, system: System | HasAtoms, *, tolerance: Tolerance | None = None
) -> None:
    """Run every check. The engine stays open.

    Args:
        engine: what to check.
        system: some tens of atoms off their lattice sites; a cell without right angles, smaller
            than twice the cutoff, shows most. An ase.Atoms will do.
        tolerance: how exact; None takes what suits the card's dtype.

    Raises:
        ConformanceError: with the first rule that was broken.
    """
    if not isinstance(system, System):
        system = System.of(system)
    tolerance = tolerance or Tolerance.of(engine.card.dtype)
    check_refusals(engine, system)
    for check in (
        check_forces,
        check_virial,
        check_site_energies,
        check_weights,
        check_wanted,
        check_invariance,
        check_memory,
        check_one_atom,
    ):
        check(engine, system, tolerance)
    check_criterion(engine, system)


def _weights(engine: Engine, system: System) -> Scalars | None:
    """Random site weights, some of them 0, if the engine takes any."""
    if not engine.card.weights:
        return None
    weight = np.random.default_rng(3).random(len(system))
    weight[::5] = 0.0
    return weight


def _energies(answer: Answer) -> Scalars:
    if answer.energies is None:
        raise ConformanceError("site energies were asked for but not given")
    return answer.energies


def _picked(answer: Answer, order: Indices) -> Answer:
    energies = None if answer.energies is None else answer.energies[order]
    return replace(answer, forces=answer.forces[order], energies=energies)


def _slope(energy: Callable[[float], float], step: float) -> float:
    """dE/dx at 0 from four points; the error is of fourth order in the step."""
    near = energy(step) - energy(-step)
    far = energy(2 * step) - energy(-2 * step)
    return (8.0 * near - far) / (12.0 * step)


def _refused(engine: Engine, system: System, what: str, criterion: str = "") -> None:
    try:
        evaluate(engine, system, criterion=criterion)
    except BadInput:
        return
    raise ConformanceError(f"{what} was evaluated instead of refused with BadInput")
