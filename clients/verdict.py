"""What the conformance suite asks with: a system, a job, and when two answers are the same.

Knows no rules; those are in `clients.testing`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from clients.engine import Answer, Engine
from mixserver.arrays import Mask, Matrix, Numbers, Scalars, Vectors
from mixserver.wire.worker import Evaluate

_jobs: Final = itertools.count(1)


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
    wanted: Mask | None = None,
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
        wanted=None if wanted is None else _frozen(wanted.astype(np.int32)),
        criterion=criterion,
    )
    given: tuple[NDArray[Any], ...] = (job.positions, job.numbers, job.cell)
    before = [array.copy() for array in given]
    answer = engine.evaluate(job)
    for old, new in zip(before, given, strict=True):
        kept = np.array_equal(old, new, equal_nan=True)
        demand(kept, "the engine changed the arrays of its job")
    demand(np.isfinite(answer.energy), f"the energy is {answer.energy}")
    for name, array, shape, asked in (
        ("forces", answer.forces, (n, 3), True),
        ("virial", answer.virial, (3, 3), True),
        ("energies", answer.energies, (n,), engine.card.energies),
        ("values", answer.values, (n,), bool(criterion)),
    ):
        if array is None:
            demand(not asked, f"{name} were asked for but not given")
            continue
        demand(asked, f"{name} were given but not asked for")
        demand(array.shape == shape, f"{name} have shape {array.shape}, not {shape}")
        demand(array.dtype == np.float64, f"{name} are {array.dtype}, not float64")
        demand(bool(np.isfinite(array).all()), f"{name} are not finite")
    lopsided = float(np.abs(answer.virial - answer.virial.T).max())
    demand(lopsided <= 1e-9 * max(1.0, float(np.abs(answer.virial).max())), "virial asymmetric")
    return answer


def same_as(got: Answer, expected: Answer, tolerance: Tolerance, case: str) -> None:
    """Demand that two answers are the same but for rounding.

    Raises:
        ConformanceError: they are not.
    """
    allowed = room(tolerance, expected)
    near(got.energy, expected.energy, allowed, f"energy ({case})")
    near(got.forces, expected.forces, allowed / max(1, len(got.forces)), f"forces ({case})")
    near(got.virial, expected.virial, allowed, f"virial ({case})")
    if got.energies is not None and expected.energies is not None:
        near(got.energies, expected.energies, 10 * tolerance.same, f"site energies ({case})")


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def room(tolerance: Tolerance, answer: Answer) -> float:
    """How far apart two extensive results may be (eV)."""
    largest = float(np.abs(answer.forces).max(initial=0.0))
    return tolerance.same * max(1.0, largest) * len(answer.forces)


def near(got: object, expected: object, allowed: float, name: str) -> None:
    """Demand that two arrays differ nowhere by more than is allowed.

    Raises:
        ConformanceError: they do.
    """
    apart = float(np.abs(np.asarray(got) - np.asarray(expected)).max(initial=0.0))
    demand(apart <= allowed, f"{name}: off by {apart:.3g}, allowed is {allowed:.3g}")


def demand(kept: bool | np.bool_, broken: str) -> None:
    """Raise unless a rule was kept.

    Raises:
        ConformanceError: with what was broken.
    """
    if not kept:
        raise ConformanceError(broken)
