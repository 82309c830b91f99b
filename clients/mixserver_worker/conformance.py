"""The conformance suite for engines, run on a system of your choice.

`check_engine(engine, System(...))` runs all checks; each is also a function of its own. They need
NumPy only, work with any test runner, and raise `ConformanceError` with the numbers. They do not
judge what a model predicts, only that its results belong to one potential energy.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from mixserver.core.arrays import Indices
from mixserver.core.errors import BadInput
from mixserver.wire.replicas import combine
from mixserver_worker.conformance_cases import (
    ConformanceError,
    HasAtoms,
    System,
    Tolerance,
    evaluate,
    make_job,
    random_weights,
    require,
    require_close,
    require_same,
)
from mixserver_worker.conformance_derivatives import (
    check_forces,
    check_site_energies,
    check_virial,
    check_wanted,
    check_weights,
)
from mixserver_worker.engine import Engine, EngineResult
from mixserver_worker.replicas import together

__all__ = [
    "ConformanceError",
    "System",
    "Tolerance",
    "check_bad_input",
    "check_criterion",
    "check_engine",
    "check_forces",
    "check_history_independence",
    "check_invariance",
    "check_one_atom",
    "check_replicas",
    "check_site_energies",
    "check_virial",
    "check_wanted",
    "check_weights",
    "evaluate",
    "require_same",
]


def check_invariance(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """Translations, lattice vectors, permutation, rotation and another cell change no result."""
    weight = random_weights(engine, system)
    plain = evaluate(engine, system, weight=weight, stream=1)
    rng = np.random.default_rng(7)
    jumps = rng.integers(-3, 4, (len(system), 3)) * np.asarray(system.pbc)
    far = jumps + np.array([57, -31, 100]) * np.asarray(system.pbc)
    for name, shift in (
        ("single atoms moved by lattice vectors", jumps @ system.cell),
        ("all far outside the cell", far @ system.cell),
        ("everything shifted", np.array([[0.37, -11.1, 5.2]])),
    ):
        moved = replace(system, positions=system.positions + shift)
        require_same(evaluate(engine, moved, weight=weight, stream=1), plain, tolerance, name)

    order = rng.permutation(len(system))
    shuffled = replace(system, positions=system.positions[order], numbers=system.numbers[order])
    answer = evaluate(engine, shuffled, weight=None if weight is None else weight[order], stream=1)
    require_same(answer, _picked(plain, order), tolerance, "the atoms in another order")

    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    turned = replace(system, positions=system.positions @ turn, cell=system.cell @ turn)
    expected = replace(plain, forces=plain.forces @ turn, virial=turn.T @ plain.virial @ turn)
    answer = evaluate(engine, turned, weight=weight, stream=1)
    require_same(answer, expected, tolerance, "everything rotated")

    a, b, c = system.pbc
    swapped = replace(system, cell=system.cell[[1, 0, 2]], pbc=(b, a, c))
    answer = evaluate(engine, swapped, weight=weight, stream=1)
    require_same(answer, plain, tolerance, "two lattice vectors swapped (other handedness)")
    if a and b:
        tilted = system.cell.copy()
        tilted[1] += 2 * tilted[0]
        answer = evaluate(engine, replace(system, cell=tilted), weight=weight, stream=1)
        require_same(answer, plain, tolerance, "the same lattice, strongly tilted")


def check_history_independence(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """Earlier jobs change no result: other streams, small steps, jumps, fewer atoms."""
    rng = np.random.default_rng(11)
    first = evaluate(engine, system, stream=3)
    fewer = replace(system, positions=system.positions[1:], numbers=system.numbers[1:])
    steps = rng.normal(scale=0.02, size=(12, len(system), 3)).cumsum(axis=0)
    jump = rng.normal(scale=0.3, size=(len(system), 3))
    stretched = replace(system, positions=system.positions * 1.02, cell=system.cell * 1.02)
    others = [(fewer, 4), (fewer, 3), (stretched, 3), (stretched, 4)] if len(fewer) else []
    others += [(replace(system, positions=system.positions + move), 3) for move in (*steps, jump)]
    for other, stream in others:
        evaluate(engine, other, stream=stream)
        require_same(evaluate(engine, system, stream=3), first, tolerance, "A, then others, then A")


def check_replicas(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """Several structures in one job have the results that they have alone."""
    if not engine.card.replicas:
        return
    rng = np.random.default_rng(13)
    moved = replace(
        system, positions=system.positions * 1.01 + rng.normal(scale=0.05, size=(len(system), 3)),
        cell=system.cell * 1.01,
    )  # fmt: skip
    fewer = replace(system, positions=system.positions[1:], numbers=system.numbers[1:])
    weights = [random_weights(engine, system), None, random_weights(engine, fewer)]
    some = [
        make_job(engine, one, weight=weight, stream=stream)
        for stream, (one, weight) in enumerate(zip((system, moved, fewer), weights, strict=True))
        if len(one)
    ]
    alone = [engine.evaluate(job) for job in some]
    answer = engine.evaluate(combine(some))
    energies, virials = answer.replica_energies, answer.virials
    if energies is None or virials is None:
        raise ConformanceError("a job of several structures has no energies and virials of each")
    ends = np.cumsum([0] + [len(job.positions) for job in some])
    for index, expected in enumerate(alone):
        rows = slice(ends[index], ends[index + 1])
        sites = None if answer.energies is None else answer.energies[rows]
        part = EngineResult(float(energies[index]), answer.forces[rows], virials[index], sites)
        require_same(part, expected, tolerance, f"structure {index} of several in one job")
    everything = replace(together(alone), energies=None)
    require_same(answer, everything, tolerance, "the sum over structures")


def check_one_atom(engine: Engine, system: System, tolerance: Tolerance) -> None:
    """A single atom can be evaluated; by symmetry its force is zero."""
    one = replace(system, positions=system.positions[:1], numbers=system.numbers[:1])
    answer = evaluate(engine, one)
    require_close(answer.forces, 0.0, tolerance.difference, "forces on a single atom")


def check_bad_input(engine: Engine, system: System) -> None:
    """NaN positions and unknown elements raise BadInput, and the engine stays usable."""
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
    """coord/atom counts neighbours correctly (against a sum over images); others raise BadInput."""
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
    require(wrong == 0, f"coord/atom cutoff {cutoff}: {wrong} atoms have a wrong count")
    _refused(engine, system, "an unknown criterion", criterion="no-such-compute/atom 3.0")


def check_engine(
    engine: Engine, system: System | HasAtoms, *, tolerance: Tolerance | None = None
) -> None:
    """Run every check. The engine stays open.

    Args:
        engine: what to check.
        system: some tens of atoms off their lattice sites, or an ase.Atoms; a cell without right
            angles, smaller than twice the cutoff, is the hardest test.
        tolerance: how exact; None takes what suits the card's dtype.

    Raises:
        ConformanceError: the first rule that does not hold.
    """
    if not isinstance(system, System):
        system = System.of(system)
    tolerance = tolerance or Tolerance.of(engine.card.dtype)
    check_bad_input(engine, system)
    for check in (
        check_forces,
        check_virial,
        check_site_energies,
        check_weights,
        check_wanted,
        check_invariance,
        check_history_independence,
        check_replicas,
        check_one_atom,
    ):
        check(engine, system, tolerance)
    check_criterion(engine, system)


def _picked(answer: EngineResult, order: Indices) -> EngineResult:
    energies = None if answer.energies is None else answer.energies[order]
    return replace(answer, forces=answer.forces[order], energies=energies)


def _refused(engine: Engine, system: System, what: str, criterion: str = "") -> None:
    try:
        evaluate(engine, system, criterion=criterion)
    except BadInput:
        return
    raise ConformanceError(f"{what} was evaluated, but should have raised BadInput")
