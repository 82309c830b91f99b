"""What an engine is: the one thing a worker needs to know about LAMMPS, MACE or any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mixserver.arrays import Matrix, Scalars, Vectors
from mixserver.wire.worker import Evaluate, ModelCard


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine gives back for one Evaluate. Shapes and units as in `wire.worker.Result`."""

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


class Engine(Protocol):
    """Evaluates jobs, one at a time, on the main thread of its process.

    An engine keeps whatever makes the next job of the same `stream` fast (neighbour lists, a
    LAMMPS instance), but its answer must not depend on it.
    """

    @property
    def card(self) -> ModelCard:
        """What the model is and what this engine can do with it."""

    def evaluate(self, job: Evaluate) -> Answer:
        """Evaluate one job without changing its arrays.

        Raises:
            BadInput: the job is at fault (unknown element, atoms on top of each other, ...).
            WorkerFault: the engine is at fault, or ran out of memory.
        """

    def close(self) -> None:
        """Give back everything. Called once."""
