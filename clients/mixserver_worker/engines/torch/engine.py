"""Evaluates jobs with a torch model: weighted site energies and their gradient.

Torch is imported when an engine is made, because `threads.prepare_torch` must be called before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np

from mixserver.core.arrays import Indices, Mask, Scalars
from mixserver.core.errors import BadInput, WorkerFault
from mixserver.wire.replicas import separate
from mixserver.wire.worker import Evaluate, ModelCard
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.validate_job import validate_job
from mixserver_worker.memory import HostMemory, Meter, OutOfMemory

if TYPE_CHECKING:
    import torch

    from mixserver_worker.engines.torch.graph_cache import Structure
    from mixserver_worker.engines.torch.site_model import SiteModel
    from mixserver_worker.engines.torch.weighted_energy import WeightedEnergy


class TorchEngine:
    """Evaluates jobs with one model.

    Args:
        model: on the device, in the precision of the card.
        card: who it is; see `setup.model_card`.
        device: of torch.
        skin: Å by which neighbour lists extend beyond the cutoff, so that they hold for many steps.
        edges: precision in which the model takes edge vectors; None is that of the card.
        distance: Å that a site energy looks, of a model that gets positions and cell besides edge
            vectors and whose layers are not known. Its card must not say that it takes replicas.
    """

    def __init__(
        self,
        model: SiteModel,
        card: ModelCard,
        device: torch.device,
        *,
        skin: float = 0.3,
        edges: torch.dtype | None = None,
        distance: float | None = None,
    ) -> None:
        import torch

        from mixserver_worker.engines.torch.graph_cache import GraphCache

        self.sites = model
        self.graphs = GraphCache(model.cutoff, model.layers, skin, distance=distance)
        self._whole = distance is not None
        self._card, self._device = card, device
        self._dtype: torch.dtype = edges or getattr(torch, card.dtype)
        self.memory: Meter = HostMemory()
        """Of the device."""
        if device.type == "cuda":
            from mixserver_worker.engines.torch.cuda_memory import CudaMemory

            self.memory = CudaMemory(device)

    @property
    def card(self) -> ModelCard:
        """Identity and capabilities of the model."""
        return self._card

    def evaluate(self, job: Evaluate) -> EngineResult:
        """Evaluate one job without changing its arrays.

        Raises:
            BadInput: an unknown element, overlapping atoms, a number that is not finite, a flat
                cell, or a criterion (torch engines have none).
            OutOfMemory: of the device.
            WorkerFault: the result is not finite.
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
        forces[order] = weighted.forces
        if energies is not None:
            energies[order[: len(weighted.energies)]] = weighted.energies
        finite = np.isfinite(weighted.energy) and np.isfinite(weighted.virial).all()
        if not (finite and np.isfinite(forces).all()):
            raise WorkerFault(
                f"the {card.engine} model {card.name} returned an energy or forces that are not "
                f"finite for job {job.job} ({atoms} atoms) although all positions are"
            )
        each = None
        if job.replica is not None:
            sites = order[: len(weighted.energies)]
            parts = weight[sites] * weighted.energies
            each = np.bincount(job.replica[sites], parts, job.replicas).astype(np.float64)
        return EngineResult(
            weighted.energy, forces, weighted.virial, energies, None, each, weighted.virials
        )

    def close(self) -> None:
        """Release memory."""
        self.graphs.clear()
        self._empty_caches()

    def _weigh(
        self, job: Evaluate, weight: Scalars, active: Mask
    ) -> tuple[Indices, WeightedEnergy]:
        from mixserver_worker.engines.torch.weighted_energy import (
            OverlapError,
            to_device,
            weighted_energy,
        )
        from mixserver_worker.engines.torch.whole import lattice_of

        try:
            cached, positions = self.graphs.get(_structures(job), active)
            graph = cached.graph
            if cached.on_device is None:
                lattice = None
                if self._whole:
                    lattice = lattice_of(graph, job.cell, job.pbc, self._device)
                cached.on_device = to_device(self.sites, graph, job.numbers, self._device, lattice)
            sites = graph.order[: graph.atoms[0]]
            weighted = weighted_energy(
                self.sites,
                cached.on_device,
                positions[graph.order],
                weight[sites],
                self._dtype,
                replica=None if job.replica is None else job.replica[graph.order],
                replicas=job.replicas,
            )
        except OverlapError as error:
            first, second = sorted(int(graph.order[place]) for place in error.args)
            raise BadInput(
                f"atoms {first} and {second} are at the same place (job {job.job})"
            ) from error
        except (MemoryError, RuntimeError) as error:
            self._fail(job, error)
        return graph.order, weighted

    def _fail(self, job: Evaluate, error: Exception) -> NoReturn:
        self.graphs.clear()
        self._empty_caches()
        text = str(error).partition("\n")[0]
        if isinstance(error, MemoryError) or "memory" in text.lower():
            raise OutOfMemory(
                f"out of memory in job {job.job} ({len(job.positions)} atoms): {text}. Use "
                "smaller regions, float32, or a device with more memory."
            ) from error
        raise WorkerFault(f"torch failed in job {job.job}: {text}") from error

    def _empty_caches(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _structures(job: Evaluate) -> list[Structure]:
    from mixserver_worker.engines.torch.graph_cache import Structure

    return [
        Structure(one.stream, one.positions, one.numbers, one.cell, one.pbc)
        for one in separate(job)
    ]
