"""The interface of an engine: all that a worker knows of LAMMPS, MACE or any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mixserver.core.arrays import Block, Matrix, Scalars, Vectors
from mixserver.wire.worker import Evaluate, ModelCard


@dataclass(frozen=True, slots=True)
class EngineResult:
    """The result of one Evaluate. Shapes and units as in `wire.worker.Result`."""

    energy: float
    """eV, sum of w_i e_i."""
    forces: Vectors
    """(n, 3) eV/Å, minus the gradient of `energy`."""
    virial: Matrix
    """(3, 3) eV, -dE/dstrain, symmetric."""
    energies: Scalars | None = None
    """(n,) eV, unweighted site energies (0 is allowed where w = 0 and it is not wanted)."""
    values: Scalars | None = None
    """(n,) the criterion's values."""
    replica_energies: Scalars | None = None
    """(R,) eV, of each replica of a job that has some."""
    virials: Block | None = None
    """(R, 3, 3) eV, likewise."""


class Engine(Protocol):
    """Evaluates jobs, one at a time, on the main thread of its process.

    An engine keeps whatever makes the next job of the same `stream` fast (neighbour lists, a
    LAMMPS instance), but its result must not depend on it.
    """

    @property
    def card(self) -> ModelCard:
        """The model, and what this engine can do with it."""

    def evaluate(self, job: Evaluate) -> EngineResult:
        """Evaluate one job without changing its arrays.

        Raises:
            BadInput: the job is at fault (unknown element, atoms on top of each other, ...).
            WorkerFault: the engine is at fault, or ran out of memory.
        """

    def close(self) -> None:
        """Release all resources. Called once."""
