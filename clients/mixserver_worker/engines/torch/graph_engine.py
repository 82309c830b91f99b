"""A job's way to its result, for engines that evaluate weighted sites on a graph of atoms.

Imports nothing heavy, as `engine`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NoReturn

import numpy as np

from mixserver.core.arrays import Block, Indices, Mask, Matrix, Scalars, Vectors
from mixserver.core.errors import BadInput, WorkerFault
from mixserver.wire.replicas import separate
from mixserver.wire.worker import Evaluate, ModelCard
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.validate_job import validate_job
from mixserver_worker.memory import HostMemory, Meter, OutOfMemory

if TYPE_CHECKING:
    from mixserver_worker.engines.torch.graph_cache import GraphCache, Structure


@dataclass(frozen=True, slots=True)
class WeightedEnergy:
    """The weighted energy of a graph, its gradient and site energies."""

    energy: float
    """eV."""
    forces: Vectors
    """(M, 3) eV/Å, in the graph's order."""
    virial: Matrix
    """(3, 3) eV, -dE/dstrain."""
    energies: Scalars
    """(n_0,) eV, unweighted."""
    virials: Block | None = None
    """(R, 3, 3) eV, of each replica if there are some."""


class GraphEngine(ABC):
    """Evaluates jobs; a subclass says how a graph gives energies and forces.

    Args:
        card: who the model is.
        graphs: neighbour lists and graphs, with the model's cutoff and layers.
    """

    library: ClassVar[str]
    """What evaluates, for messages."""

    def __init__(self, card: ModelCard, graphs: GraphCache) -> None:
        self._card = card
        self.graphs = graphs
        self.memory: Meter = HostMemory()
        """Of the device."""

    @property
    def card(self) -> ModelCard:
        """Identity and capabilities of the model."""
        return self._card

    def evaluate(self, job: Evaluate) -> EngineResult:
        """Evaluate one job without changing its arrays.

        Raises:
            BadInput: an unknown element, overlapping atoms, a number that is not finite, a flat
                cell, or a criterion (these engines have none).
            OutOfMemory: of the device.
            WorkerFault: the library failed, or the result is not finite.
        """
        card = self._card
        if job.criterion:
            raise BadInput(
                f"the {card.engine} engine has no criteria, but {job.criterion!r} was requested"
            )
        validate_job(job, card.species, card.name)
        atoms = len(job.positions)
        weight = np.ones(atoms) if job.weight is None else job.weight
        active = job.sites
        forces = np.zeros((atoms, 3))
        energies = np.zeros(atoms) if job.energies else None
        if not active.any():
            nothing = None if job.replica is None else np.zeros(job.replicas)
            virials = None if nothing is None else np.zeros((len(nothing), 3, 3))
            return EngineResult(0.0, forces, np.zeros((3, 3)), energies, None, nothing, virials)
        order, weighted = self._weigh(job, weight, active)
        sites = order[: len(weighted.energies)]
        forces[order] = weighted.forces
        if energies is not None:
            energies[sites] = weighted.energies
        results = (weighted.energy, weighted.virial, weighted.energies, forces)
        if not all(np.isfinite(result).all() for result in results):
            raise WorkerFault(
                f"the {card.engine} model {card.name} returned an energy or forces that are not "
                f"finite for job {job.job} ({atoms} atoms) although all positions are"
            )
        each = None
        if job.replica is not None:
            parts = weight[sites] * weighted.energies
            each = np.bincount(job.replica[sites], parts, job.replicas).astype(np.float64)
        return EngineResult(
            weighted.energy, forces, weighted.virial, energies, None, each, weighted.virials
        )

    def close(self) -> None:
        """Release memory."""
        self.graphs.clear()

    @abstractmethod
    def _weigh(
        self, job: Evaluate, weight: Scalars, active: Mask
    ) -> tuple[Indices, WeightedEnergy]:
        """Evaluate the active sites.

        Args:
            job: validated.
            weight: (n,) of all atoms of the job.
            active: (n,) sites to evaluate, at least one.

        Returns:
            (M,) atoms of the job in the order of the forces, sites first, and what was found.

        Raises:
            As `evaluate`; `_overlap` and `_fail` raise them.
        """

    def _overlap(self, job: Evaluate, ends: Indices) -> BadInput:
        """The error that two atoms of a job, (2,), overlap."""
        first, second = sorted(ends.tolist())
        return BadInput(f"atoms {first} and {second} are at the same place (job {job.job})")

    def _fail(self, job: Evaluate, error: Exception) -> NoReturn:
        """Release memory and raise what an error of the library means."""
        self.close()
        text = str(error).partition("\n")[0]
        if isinstance(error, MemoryError | OverflowError) or "memory" in text.lower():
            raise OutOfMemory(
                f"out of memory in job {job.job} ({len(job.positions)} atoms): {text}. Use "
                "smaller regions, float32, or a device with more memory."
            ) from error
        raise WorkerFault(f"{self.library} failed in job {job.job}: {text}") from error


def structures_of(job: Evaluate) -> list[Structure]:
    """The structures of a job, one for each replica."""
    from mixserver_worker.engines.torch.graph_cache import Structure

    return [
        Structure(one.stream, one.positions, one.numbers, one.cell, one.pbc)
        for one in separate(job)
    ]
