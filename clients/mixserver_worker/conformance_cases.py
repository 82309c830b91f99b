"""Systems, tolerances and comparisons of the conformance suite.

The rules are in `conformance` and `conformance_derivatives`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Mask, Matrix, Numbers, Scalars, Vectors
from mixserver.wire.worker import Evaluate
from mixserver_worker.engine import Engine, EngineResult

_jobs: Final = itertools.count(1)


class ConformanceError(AssertionError):
    """An engine breaks a rule that mixing relies on; the message has the numbers."""


class HasAtoms(Protocol):
    """A structure, such as ase.Atoms."""

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
        """Tolerances for an engine of this precision."""
        return cls() if dtype == "float64" else cls(same=5e-4, difference=1e-2, step=2e-2)


def evaluate(
    engine: Engine,
    system: System,
    *,
    weight: Scalars | None = None,
    wanted: Mask | None = None,
    stream: int = 0,
    criterion: str = "",
) -> EngineResult:
    """Evaluate a system on read-only arrays, as they come from the wire, and check the shapes.

    Raises:
        ConformanceError: the result has wrong shapes, is not finite, has an asymmetric virial,
            lacks what was requested, or the engine changed its input.
    """
    n = len(system)
    job = make_job(engine, system, weight=weight, wanted=wanted, stream=stream, criterion=criterion)
    given: tuple[NDArray[Any], ...] = (job.positions, job.numbers, job.cell)
    before = [array.copy() for array in given]
    answer = engine.evaluate(job)
    for old, new in zip(before, given, strict=True):
        kept = np.array_equal(old, new, equal_nan=True)
        require(kept, "the engine changed the arrays of its job")
    require(np.isfinite(answer.energy), f"the energy is {answer.energy}")
    for name, array, shape, asked in (
        ("forces", answer.forces, (n, 3), True),
        ("virial", answer.virial, (3, 3), True),
        ("energies", answer.energies, (n,), engine.card.energies),
        ("values", answer.values, (n,), bool(criterion)),
    ):
        if array is None:
            require(not asked, f"{name} were requested but not returned")
            continue
        require(asked, f"{name} were returned but not requested")
        require(array.shape == shape, f"{name} have shape {array.shape}, not {shape}")
        require(array.dtype == np.float64, f"{name} are {array.dtype}, not float64")
        require(bool(np.isfinite(array).all()), f"{name} are not finite")
    lopsided = float(np.abs(answer.virial - answer.virial.T).max())
    require(lopsided <= 1e-9 * max(1.0, float(np.abs(answer.virial).max())), "virial asymmetric")
    return answer


def make_job(
    engine: Engine,
    system: System,
    *,
    weight: Scalars | None = None,
    wanted: Mask | None = None,
    stream: int = 0,
    criterion: str = "",
) -> Evaluate:
    """A job about a system, with read-only arrays."""
    return Evaluate(
        job=next(_jobs),
        stream=stream,
        positions=_frozen(system.positions),
        numbers=_frozen(system.numbers),
        cell=_frozen(system.cell),
        pbc=system.pbc,
        weight=None if weight is None else _frozen(weight),
        energies=engine.card.energies,
        wanted=None if wanted is None else _frozen(wanted.astype(np.int32)),
        criterion=criterion,
    )


def require_same(
    got: EngineResult, expected: EngineResult, tolerance: Tolerance, case: str
) -> None:
    """Require that two results are equal but for rounding.

    Raises:
        ConformanceError: they are not.
    """
    allowed = allowed_difference(tolerance, expected)
    require_close(got.energy, expected.energy, allowed, f"energy ({case})")
    require_close(
        got.forces, expected.forces, allowed / max(1, len(got.forces)), f"forces ({case})"
    )
    require_close(got.virial, expected.virial, allowed, f"virial ({case})")
    if got.energies is not None and expected.energies is not None:
        require_close(
            got.energies, expected.energies, 10 * tolerance.same, f"site energies ({case})"
        )


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def allowed_difference(tolerance: Tolerance, answer: EngineResult) -> float:
    """Allowed difference of two extensive results (eV)."""
    largest = float(np.abs(answer.forces).max(initial=0.0))
    return tolerance.same * max(1.0, largest) * len(answer.forces)


def require_close(got: object, expected: object, allowed: float, name: str) -> None:
    """Require that two arrays differ nowhere by more than is allowed.

    Raises:
        ConformanceError: they do.
    """
    apart = float(np.abs(np.asarray(got) - np.asarray(expected)).max(initial=0.0))
    require(apart <= allowed, f"{name}: differs by {apart:.3g}, allowed are {allowed:.3g}")


def require(holds: bool | np.bool_, message: str) -> None:
    """Raise unless a rule holds.

    Raises:
        ConformanceError: it does not.
    """
    if not holds:
        raise ConformanceError(message)


def random_weights(engine: Engine, system: System) -> Scalars | None:
    """Random site weights, some of them 0, if the engine takes any."""
    if not engine.card.weights:
        return None
    weight = np.random.default_rng(3).random(len(system))
    weight[::5] = 0.0
    return weight


def site_energies(answer: EngineResult) -> Scalars:
    """The site energies of a result, which must be there."""
    if answer.energies is None:
        raise ConformanceError("site energies were requested but not returned")
    return answer.energies
