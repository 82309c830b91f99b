"""The engine of MACE models on kernels of symmetrix-xl: weighted site energies, pruned layers."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from mixserver.core.arrays import Block, Groups, Indices, Mask, Scalars, Vectors
from mixserver.core.cache_folder import cache_folder
from mixserver.wire.worker import Evaluate, ModelCard
from mixserver_worker.engines.mace.model import ModelFile, head_index, import_mace, read_model
from mixserver_worker.engines.symmetrix.active_edges import ActiveEdges, active_edges
from mixserver_worker.engines.symmetrix.conversion import (
    REVISION,
    SPLINE_POINTS,
    convert,
    isolated_atoms,
    refuse_unknown,
)
from mixserver_worker.engines.symmetrix.model_cache import cached_file
from mixserver_worker.engines.symmetrix.package import Unavailable, import_symmetrix
from mixserver_worker.engines.symmetrix.stages import StagedModel
from mixserver_worker.engines.symmetrix.whole import WholeModel, whole_model
from mixserver_worker.engines.torch.graph_cache import GraphCache
from mixserver_worker.engines.torch.graph_engine import GraphEngine, WeightedEnergy, structures_of
from mixserver_worker.engines.torch.setup import Precision, choose_precision, set_up

_LAYERS = 2
_OVERLAP = 1e-3
"""Å. Closer atoms overlap; the direction between them is undefined."""
_log = logging.getLogger("mixserver.mace")


class SymmetrixEngine(GraphEngine):
    """Evaluates jobs with one MACE model, converted for symmetrix-xl.

    Radial functions are splines, so results differ from those of torch by some 1e-7 eV/Å; the
    model card's fingerprint tells them apart.

    Args:
        model: path of a .model file, or "mace_mp:NAME" / "mace_off:NAME".
        device: "auto" (CUDA if torch finds a GPU), "cpu", "cuda" or "cuda:0".
        dtype: precision of the model's arithmetic; "model" is that of the file. Edge vectors,
            sums of forces and energies are float64 in any case.
        head: name of the head, needed if the model has several.
        skin: Å by which neighbour lists extend beyond the cutoff, so that they hold for many steps.
        threads: CPU threads; None is OMP_NUM_THREADS, or all.
        cache: folder of converted models; None is the user's cache.
        compiled: compile code for sites of equal weight, for up to some minutes at the first start.

    Raises:
        Unavailable: symmetrix-xl is not installed, or cannot evaluate this model here.
        ConfigError: the model, the device, the precision or the head is not available.
        MissingPackage: torch or mace-torch is not installed.
    """

    library = "symmetrix-xl"

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        dtype: Precision = "float64",
        head: str | None = None,
        skin: float = 0.3,
        threads: int | None = None,
        cache: Path | None = None,
        compiled: bool = False,
    ) -> None:
        where = set_up(device, threads, skin, "mace")  # before the model is read
        import_mace()
        package = import_symmetrix(str(where))
        read = read_model(model)
        index = head_index(read.heads, head)
        own = next(read.module.parameters()).dtype
        precision = str(choose_precision(dtype, own)).removeprefix("torch.")
        evaluator = package.evaluator_class(precision, threads or _usual_threads())
        several = len(read.heads) > 1
        made_with = f"symmetrix {package.version} splines={SPLINE_POINTS} revision={REVISION}"
        folder = (cache or cache_folder()) / "symmetrix"
        key = hashlib.sha256(f"{made_with} {read.sha256} {read.heads[0]}".encode()).hexdigest()
        with cached_file(folder, key[:32], lambda: _convert(read, model, folder)) as file:
            name = read.heads[index] if several else ""
            try:
                self.staged = StagedModel(evaluator, file, name)
            except Exception as error:
                raise Unavailable(f"symmetrix-xl cannot load the model: {error}") from error
            self.whole: WholeModel | None = None
            if compiled:
                self.whole = whole_model(file, name, precision)
        self._repulsion = _repulsion(read.module, index, self.staged.species)
        self._isolated = isolated_atoms(read.module, index, self.staged.species)
        self._index = np.full(max(self.staged.species) + 1, -1, np.int32)
        self._index[list(self.staged.species)] = np.arange(len(self.staged.species))
        card = ModelCard(
            engine="mace",
            name=read.name,
            fingerprint=hashlib.sha256(
                f"mace {read.sha256} head={read.heads[index]} dtype={precision} "
                f"kernels={made_with}".encode()
            ).hexdigest(),
            species=tuple(sorted(self.staged.species)),
            cutoff=self.staged.cutoff,
            receptive_field=_LAYERS * self.staged.cutoff,
            weights=True,
            energies=True,
            replicas=True,
            dtype=precision,
        )
        super().__init__(card, GraphCache(self.staged.cutoff, _LAYERS, skin))
        if package.device != "cpu":
            from mixserver_worker.engines.symmetrix.device_memory import DeviceMemory

            self.memory = DeviceMemory(where)
        self._test(read.module, index)

    def _weigh(
        self, job: Evaluate, weight: Scalars, active: Mask
    ) -> tuple[Indices, WeightedEnergy]:
        order, edges = self._edges(job, active)
        sites = order[: edges.sites]
        try:
            energies, slope = self._evaluate(edges, weight[sites])
        except (MemoryError, OverflowError, RuntimeError, ValueError) as error:
            self._fail(job, error)
        virial = edges.vector.T @ slope
        virials = None
        if job.replica is not None:
            virials = _virials(edges, slope, job.replica[order], job.replicas)
        return order, WeightedEnergy(
            energy=float(weight[sites] @ energies),
            forces=_sum_over_edges(edges, slope),
            virial=0.5 * (virial + virial.T),
            energies=energies,
            virials=virials,
        )

    def _edges(self, job: Evaluate, active: Mask) -> tuple[Indices, ActiveEdges]:
        """The atoms of the job that matter, and their edges in this order."""
        cached, positions = self.graphs.get(structures_of(job), active)
        graph = cached.graph
        if cached.on_device is None:
            cached.on_device = self._index[job.numbers[graph.order]]
        types = cached.on_device
        edges = active_edges(graph, positions[graph.order], types, self.staged.cutoff)
        order = graph.order[edges.atoms]
        overlaps = np.flatnonzero(edges.length < _OVERLAP)
        if len(overlaps):
            ends = [edges.sender[overlaps[0]], edges.receiver[overlaps[0]]]
            raise self._overlap(job, order[ends])
        return order, edges

    def _evaluate(self, edges: ActiveEdges, weight: Scalars) -> tuple[Scalars, Vectors]:
        """Energies of the sites, and minus the gradient of their weighted sum for every edge."""
        isolated = self._isolated[edges.types[: edges.sites]]
        everywhere = edges.sites == len(edges.atoms)
        if self.whole is not None and everywhere and (weight == weight[0]).all():
            energies, slope = self.whole.evaluate(edges)
            return energies + isolated, weight[0] * slope
        energies, slope = self.staged.evaluate(edges, weight)
        if self._repulsion is not None and edges.site_edges:
            repulsion, push = self._repulsion.evaluate(edges, weight)
            energies, slope = energies + repulsion, slope + push
        return energies + isolated, slope

    def _test(self, module: Any, head: int) -> None:
        """Compare with mace's own module.

        Raises:
            Unavailable: the results differ.
        """
        from mixserver_worker.engines.symmetrix.self_test import weighted_reference

        for uniform in (True, False):  # fewer atoms after more: what evaluators keep does no harm
            reference = weighted_reference(module, head, uniform=uniform)
            job = Evaluate(
                job=0,
                stream=0,
                positions=reference.positions,
                numbers=reference.numbers,
                cell=100.0 * np.eye(3),
                pbc=(False, False, False),
                weight=reference.weight,
                energies=True,
            )
            try:
                answer = self.evaluate(job)
            except Exception as error:
                raise Unavailable(
                    f"symmetrix-xl fails on {len(reference.numbers)} atoms: {error}"
                ) from error
            finally:
                self.graphs.clear()
            problem = reference.difference(answer, self._card.dtype)
            if problem:
                raise Unavailable(f"symmetrix-xl does not agree with mace: {problem}")


def _sum_over_edges(edges: ActiveEdges, slope: Vectors) -> Vectors:
    """(M, 3) forces on the atoms: each edge pulls its sender one way and its receiver the other."""
    count = len(edges.atoms)
    forces = np.empty((count, 3))
    for axis in range(3):
        along = slope[:, axis]
        forces[:, axis] = np.bincount(edges.sender, along, count)
        forces[:, axis] -= np.bincount(edges.receiver, along, count)
    return forces


def _virials(edges: ActiveEdges, slope: Vectors, replica: Groups, count: int) -> Block:
    """(R, 3, 3) eV, from the gradient on the edges of all replicas together."""
    products = (edges.vector[:, :, None] * slope[:, None, :]).reshape(-1, 9)
    owner = replica[edges.receiver]
    each: Block = np.empty((count, 9))
    for column in range(9):
        each[:, column] = np.bincount(owner, products[:, column], count)
    each = each.reshape(count, 3, 3)
    return 0.5 * (each + each.transpose(0, 2, 1))


def _convert(read: ModelFile, model: str, folder: Path) -> bytes:
    refuse_unknown(read.module)
    _log.info("converting %s for symmetrix-xl, once; the result is kept in %s", model, folder)
    return convert(read.module, read.heads[0])


def _repulsion(module: Any, head: int, species: tuple[int, ...]) -> Any:
    if not hasattr(module, "pair_repulsion"):
        return None
    from mixserver_worker.engines.symmetrix.repulsion import Repulsion

    return Repulsion(module, head, species)


def _usual_threads() -> int:
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(stated) if stated.isdecimal() else len(os.sched_getaffinity(0))
