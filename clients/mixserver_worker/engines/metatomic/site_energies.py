"""Site energies of a metatomic model.

The model gets the atoms that the sites depend on, the neighbour lists that it asks for, and which
atoms are sites (`selected_atoms`). It may look at positions and the cell besides the vectors of
neighbours, so all three carry a gradient, see `torch.whole`. It converts units itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from metatensor.torch import Labels, TensorBlock
from metatomic.torch import ModelEvaluationOptions, ModelOutput, System

from mixserver_worker.engines.metatomic.model import MetatomicModel
from mixserver_worker.engines.torch.graph import Graph
from mixserver_worker.engines.torch.site_model import Edges
from mixserver_worker.engines.torch.whole import Whole

_SHORTEST: Final = 0.1
"""Å. Least cutoff, so that overlapping atoms are found for models that ask for no list."""
_PAIR: Final = ["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"]


class MetatomicSites:
    """An exported model that returns site energies.

    Args:
        model: the model.
        device: of torch.
    """

    layers = 1
    """Not known; graphs have all atoms within the interaction range, see `graph.within`."""
    isolated: Mapping[int, float] = {}

    def __init__(self, model: MetatomicModel, device: torch.device) -> None:
        self.species = model.species
        self.module = model.module.to(device)
        cutoffs = [float(one.engine_cutoff("angstrom")) for one in model.requests]
        self.requests = tuple(zip(model.requests, cutoffs, strict=True))
        self.cutoff = max([*cutoffs, _SHORTEST])
        self.distance = max(model.interaction_range, self.cutoff)
        """Å that a site energy looks."""
        self.output = model.output
        self.request = {model.output: ModelOutput(unit="eV", sample_kind="atom")}
        self._xyz = Labels("xyz", torch.arange(3, device=device)[:, None])
        self._distance = Labels("distance", torch.zeros(1, 1, dtype=torch.int64, device=device))

    def prepare(self, graph: Graph, numbers: torch.Tensor) -> tuple[torch.Tensor, Labels | None]:
        """(M,) int32 atomic numbers, and the sites if they are not all atoms."""
        types = numbers.to(torch.int32)
        sites = graph.atoms[0]
        if sites == len(types):
            return types, None
        rows = torch.zeros(sites, 2, dtype=torch.int32, device=types.device)
        rows[:, 1] = torch.arange(sites, dtype=torch.int32, device=types.device)
        return types, Labels(["system", "atom"], rows)

    def site_energies(
        self, prepared: tuple[torch.Tensor, Labels | None], edges: Edges
    ) -> torch.Tensor:
        """(n_0,) eV of the sites."""
        types, selected = prepared
        whole = edges.whole
        if whole is None:
            raise RuntimeError("a metatomic model needs positions and cell")
        system = System(types, whole.positions, whole.cell, whole.pbc)
        lengths = torch.linalg.vector_norm(edges.vectors.detach(), dim=1)
        for options, cutoff in self.requests:
            near = lengths < cutoff if options.strict else lengths <= self.cutoff
            if not options.full_list:
                near = near & _half(edges.ends, whole.images)
            system.add_neighbor_list(options, self._neighbours(edges, whole, near))
        return self.evaluate([system], selected, edges.atoms[0])

    def evaluate(
        self, systems: Sequence[System], selected: Labels | None, sites: int
    ) -> torch.Tensor:
        """(n_0,) eV of the first atoms of one system.

        Args:
            systems: one, with neighbour lists.
            selected: those atoms, None for all.
            sites: how many they are.

        Raises:
            RuntimeError: the model returns energies of other atoms.
        """
        options = ModelEvaluationOptions(
            length_unit="angstrom", outputs=self.request, selected_atoms=selected
        )
        block = self.module(systems, options, check_consistency=False)[self.output].block()
        atoms = block.samples.column("atom").to(torch.int64)
        values = block.values.reshape(len(atoms), -1)
        energies: torch.Tensor = values.new_zeros(sites)
        if values.shape[1] != 1 or len(atoms) != sites:
            raise RuntimeError(
                f"the model returned {tuple(block.values.shape)} energies for {sites} sites"
            )
        if not torch.equal(atoms.sort().values, torch.arange(sites, device=atoms.device)):
            raise RuntimeError("the model returned energies of atoms that are no sites")
        return energies.index_add(0, atoms, values[:, 0])

    def _neighbours(self, edges: Edges, whole: Whole, near: torch.Tensor) -> TensorBlock:
        first_and_second = edges.ends[:, near].T.to(torch.int32)
        samples = torch.cat((first_and_second, whole.images[near]), dim=1)
        return TensorBlock(
            edges.vectors[near][:, :, None],
            Labels(_PAIR, samples, assume_unique=True),
            [self._xyz],
            self._distance,
        )


def _half(ends: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """(K,) one of each pair of edges i to j and j to i, where j may be an image of i."""
    first, second = ends
    a, b, c = images.T
    forward: torch.Tensor = (a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & (c > 0))))
    half: torch.Tensor = (first < second) | ((first == second) & forward)
    return half
