"""The conformance suite: what every engine must keep, measured on a system of your choice.

`check_engine(engine, System(...))` runs all checks; each is also a function of its own. They need
NumPy only, work with any test runner, and raise `ConformanceError` with the numbers. What a model
predicts is not judged; that its answers belong to one potential energy is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from clients.engine import Answer, Engine
from mixserver.arrays import Indices, Matrix, Numbers, Scalars, Vectors
from mixserver.errors import BadInput
from mixserver.wire.worker import Evaluate


class ConformanceError(AssertionError):
    """An engine broke a rule that mixing relies on; the message has the numbers."""


class HasAtoms(Protocol):
    """What is needed of a structure; ase.Atoms has it."""

    positions: Vectors
    numbers: Numbers
    cell: Matrix
    pbc: tuple[bool, bool, bool]


@dataclass(frozen=True, slots=True)
class System:
    """Atoms to check an engine on: some tens, off their lattice sites, in a general cell."""

    positions: Vectors
    """(n, 3) Å."""
    numbers: Numbers
    """(n,) atomic numbers."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors."""
    pbc: tuple[bool, bool, bool] = (True, True, True)

    @classmethod
    def of(cls, atoms: HasAtoms) -> System:
        """Copy it from an ase.Atoms."""
        a, b, c = (bool(axis) for axis in atoms.pbc)
        return cls(
            np.array(atoms.positions, dtype=np.float64),
            np.array(atoms.numbers, dtype=np.int32),
            np.array(atoms.cell, dtype=np.float64).reshape(3, 3),
            (a, b, c),
        )

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How exact an engine must be. `Tolerance.of(dtype)` fits the usual precisions."""

    same: float = 1e-9
    """eV/Å and eV per atom, between two evaluations of the same physical state; relative to the
    largest force where that exceeds 1 eV/Å."""
    difference: float = 1e-6
    """eV/Å, and eV per atom for the virial, between a gradient and finite differences; likewise."""
    step: float = 1e-3
    """Å. Of the finite differences (four points, error of fourth order)."""

    @classmethod
    def of(cls, dtype: str) -> Tolerance:
        """What suits an engine that computes in this precision."""
        return cls() if dtype == "float64" else cls(same=5e-4, difference=1e-2, step=2e-2)


def evaluate(
    engine: Engine,
    system: System,
    *,
    weight: Scalars | None = None,
    stream: int = 0,
    criterion: str = "",
) -> Answer:
    """Evaluate a system on read-only arrays, as they come from the wire, and check the shapes.

    Raises:
        ConformanceError: the answer has wrong shapes, is not finite, has an asymmetric virial,
            lacks what was asked for, or the engine changed its input.
    """
    n = len(system)
    job = Evaluate(
        job=next(_jobs),
        stream=stream,
        positions=_frozen(system.positions),
        numbers=_frozen(system.numbers),
        cell=_frozen(system.cell),
        pbc=system.pbc,
        weight=None if weight is None else _frozen(weight),
        energies=engine.card.energies,
        criterion=criterion,
    )
    given: tuple[NDArray[Any], ...] = (job.positions, job.numbers, job.cell)
    before = [array.copy() for array in given]
    answer = engine.evaluate(job)
    for old, new in zip(before, given, strict=True):
        kept = np.array_equal(old, new, equal_nan=True)
        _demand(kept, "the engine changed the arrays of its job")
    _demand(np.isfinite(answer.energy), f"the energy is {answer.energy}")
    for name, array, shape, asked in (
        ("forces", answer.forces, (n, 3), True),
        ("virial", answer.virial, (3, 3), True),
        ("energies", answer.energies, (n,), engine.card.energies),
        ("values", answer.values, (n,), bool(criterion)),
    ):
        if array is None:
            _demand(not asked, f"{name} were asked for but not given")
            continue
        _demand(asked, f"{name} were given but not asked for")
        _demand(array.shape == shape, f"{name} have shape {array.shape}, not {shape}")
        _demand(array.dtype == np.float64, f"{name} are {array.dtype}, not float64")
        _demand(bool(np.isfinite(array).all()), f"{name} are not finite")
    lopsided = float(np.abs(answer.virial - answer.virial.T).max())
    _demand(lopsided <= 1e-9 * max(1.0, float(np.abs(answer.virial).max())), "virial asymmetric")
    return answer


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
        _demand(
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
        _demand(
            abs(got - expected) <= tolerance.difference * scale,
            f"virial {got:.9g} eV at ({row}, {column}), but -dE/dstrain = {expected:.9g}",
        )


def check_site_energies(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """The unweighted site energies add up to the unweighted energy; weights enter as w . e."""
    if not engine.card.energies:
        return
    answer = evaluate(engine, system)
    energies = _energies(answer)
    _near(answer.energy, energies.sum(), tolerance.same * len(system), "sum of site energies")
    weight = _weights(engine, system)
    if weight is not None:
        weighted = evaluate(engine, system, weight=weight)
        expected = weight @ energies
        _near(weighted.energy, expected, tolerance.same * len(system), "sum of w_i e_i")
        _near(_energies(weighted), energies, tolerance.same * 10, "unweighted site energies")


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
        _near(got, expected, _room(tolerance, plain), f"{name} of 0.5 u + 0.25 v")
    same_as(evaluate(engine, system, weight=np.ones(len(system))), plain, tolerance, "weights of 1")
    none = evaluate(engine, system, weight=np.zeros(len(system)))
    worst = max(abs(none.energy), np.abs(none.forces).max(), np.abs(none.virial).max())
    _demand(worst == 0.0, f"all weights are 0 but something is {worst:.3g}")


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
    _near(answer.forces, 0.0, tolerance.difference, "forces on a single atom")


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
    _demand(wrong == 0, f"coord/atom cutoff {cutoff}: {wrong} atoms have another count")
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
        check_invariance,
        check_memory,
        check_one_atom,
    ):
        check(engine, system, tolerance)
    check_criterion(engine, system)


def same_as(got: Answer, expected: Answer, tolerance: Tolerance, case: str) -> None:
    """Demand that two answers are the same but for rounding.

    Raises:
        ConformanceError: they are not.
    """
    room = _room(tolerance, expected)
    _near(got.energy, expected.energy, room, f"energy ({case})")
    _near(got.forces, expected.forces, room / max(1, len(got.forces)), f"forces ({case})")
    _near(got.virial, expected.virial, room, f"virial ({case})")
    if got.energies is not None and expected.energies is not None:
        _near(got.energies, expected.energies, 10 * tolerance.same, f"site energies ({case})")


_jobs: Final = itertools.count(1)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


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


def _room(tolerance: Tolerance, answer: Answer) -> float:
    """How far apart two extensive results may be (eV)."""
    largest = float(np.abs(answer.forces).max(initial=0.0))
    return tolerance.same * max(1.0, largest) * len(answer.forces)


def _near(got: object, expected: object, room: float, name: str) -> None:
    apart = float(np.abs(np.asarray(got) - np.asarray(expected)).max(initial=0.0))
    _demand(apart <= room, f"{name}: off by {apart:.3g}, allowed is {room:.3g}")


def _refused(engine: Engine, system: System, what: str, criterion: str = "") -> None:
    try:
        evaluate(engine, system, criterion=criterion)
    except BadInput:
        return
    raise ConformanceError(f"{what} was evaluated instead of refused with BadInput")


def _demand(kept: bool | np.bool_, broken: str) -> None:
    if not kept:
        raise ConformanceError(broken)
