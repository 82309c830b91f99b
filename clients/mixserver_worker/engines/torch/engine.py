"""Evaluates jobs with a torch model: weighted site energies and their gradient.

Torch is imported when an engine is made, because `threads.prepare_torch` must be called before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixserver.core.arrays import Indices, Mask, Scalars
from mixserver.wire.worker import Evaluate, ModelCard
from mixserver_worker.engines.torch.graph_engine import GraphEngine, WeightedEnergy, structures_of

if TYPE_CHECKING:
    import torch

    from mixserver_worker.engines.torch.site_model import SiteModel


class TorchEngine(GraphEngine):
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

    library = "torch"

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

        super().__init__(card, GraphCache(model.cutoff, model.layers, skin, distance=distance))
        self.sites = model
        self._whole = distance is not None
        self._device = device
        self._dtype: torch.dtype = edges or getattr(torch, card.dtype)
        if device.type == "cuda":
            from mixserver_worker.engines.torch.cuda_memory import CudaMemory

            self.memory = CudaMemory(device)

    def close(self) -> None:
        """Release memory, of the device too."""
        import torch

        super().close()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

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
            cached, positions = self.graphs.get(structures_of(job), active)
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
            raise self._overlap(job, graph.order[list(error.args)]) from error
        except (MemoryError, RuntimeError) as error:
            self._fail(job, error)
        return graph.order, weighted
