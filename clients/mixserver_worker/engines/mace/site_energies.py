"""Site energies of a MACE model, layer by layer.

Each layer is evaluated on a prefix of the atoms and edges of a graph from `torch.graph.prune`. This
is exact, because the rest influences no site with weight. Units: Å, eV.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mixserver_worker.engines.mace.kernels import replacement
from mixserver_worker.engines.mace.kernels.contraction import ElementContraction, Group
from mixserver_worker.engines.mace.kernels.convolution import Convolution
from mixserver_worker.engines.mace.kernels.elements import ElementLinear
from mixserver_worker.engines.torch.graph import Graph
from mixserver_worker.engines.torch.site_model import Edges


@dataclass(frozen=True, slots=True)
class PreparedAtoms:
    """What MACE derives from the atoms of a graph and their elements."""

    attributes: torch.Tensor
    """(M, elements) one-hot."""
    features: torch.Tensor
    """(M, channels) input of the first layer."""
    heads: torch.Tensor
    """(M,) index of the head, repeated."""
    groups: tuple[tuple[Group, ...], ...]
    """(L,) rows of each element among the atoms within 0, 1, ... L - 1 edges."""


class MaceSites:
    """A MACE module that returns site energies.

    Args:
        module: a `mace.modules.MACE` or `ScaleShiftMACE`; it is changed in place.
        device: of torch.
        dtype: precision of the model's arithmetic.
        head: index of the head.
        fast: use `kernels` in place of some of its modules.
    """

    def __init__(
        self,
        module: Any,
        *,
        device: torch.device,
        dtype: torch.dtype,
        head: int,
        fast: bool = True,
    ) -> None:
        energies = module.atomic_energies_fn.atomic_energies.detach()
        energies = energies.reshape(-1, energies.shape[-1])
        species = [int(z) for z in module.atomic_numbers]
        self.isolated: Mapping[int, float] = dict(
            zip(species, energies[head].double().tolist(), strict=True)
        )
        module = module.to(device="cpu", dtype=torch.float64).eval().requires_grad_(False)
        self.contractions = [
            _contraction(product, device, dtype) if fast else None for product in module.products
        ]
        for interaction in module.interactions if fast else ():
            _use_kernels(interaction)
        self.module = module.to(device=device, dtype=dtype)
        self._device = device
        self._dtype = dtype
        self._head = head
        self.cutoff = float(module.r_max)
        self.layers = int(module.num_interactions)
        self.species = tuple(int(z) for z in module.atomic_numbers)
        self._index = np.full(max(self.species) + 1, -1)
        self._index[list(self.species)] = np.arange(len(self.species))

    def prepare(self, graph: Graph, numbers: torch.Tensor) -> PreparedAtoms:
        """Derive what depends on the elements alone, and prepare kernels for them."""
        indices = self._index[numbers.cpu().numpy()]
        self.prepare_kernels(indices)
        elements = self._tensor(indices)
        attributes = torch.nn.functional.one_hot(elements, len(self.species)).to(self._dtype)
        return PreparedAtoms(
            attributes=attributes,
            features=self.module.node_embedding(attributes),
            heads=torch.full_like(elements, self._head),
            groups=tuple(self._groups(indices[:count]) for count in graph.atoms[:-1]),
        )

    def site_energies(self, prepared: PreparedAtoms, edges: Edges) -> torch.Tensor:
        """(n_0,) eV, site energies without those of the isolated atoms."""
        module, vectors, ends = self.module, edges.vectors, edges.ends
        sites = edges.atoms[0]
        heads = prepared.heads[:sites]
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        harmonics = module.spherical_harmonics(vectors)
        radial, envelope = module.radial_embedding(
            lengths, prepared.attributes, ends, module.atomic_numbers
        )
        features = prepared.features
        layers: list[torch.Tensor] = []
        for depth, (interaction, product) in enumerate(
            zip(module.interactions, module.products, strict=True)
        ):
            part = edges.prefix(depth)
            count, senders, receivers = part.edges, part.senders, part.receivers
            # Atoms that only send messages are passed as what MACE calls ghosts when LAMMPS splits
            # a system among processes. Ghosts of a "first layer" are dropped right after the
            # messages are summed, and nothing is exchanged.
            messages, residual = interaction(
                node_attrs=prepared.attributes[:senders],
                node_feats=features[:senders],
                edge_attrs=harmonics[:count],
                edge_feats=radial[:count],
                edge_index=ends[:, :count],
                cutoff=None if envelope is None else envelope[:count],
                lammps_class=self,
                lammps_natoms=(receivers, senders - receivers),
                first_layer=True,
            )
            fast = self.contractions[depth]
            if fast is None:
                features = product(
                    node_feats=messages, sc=residual, node_attrs=prepared.attributes[:receivers]
                )
            else:
                features = product.linear(fast(messages, prepared.groups[self.layers - 1 - depth]))
                if product.use_sc and residual is not None:
                    features = features + residual
            layers.append(features)
        if len(module.readouts) == 1:
            layers = layers[-1:]
        rows = torch.arange(sites, device=self._device)
        energy = torch.zeros(sites, dtype=self._dtype, device=self._device)
        for readout, layer in zip(module.readouts, layers, strict=True):
            energy = energy + readout(layer[:sites], heads)[rows, heads]
        if hasattr(module, "pair_repulsion"):
            count = edges.counts[0]
            repulsion = module.pair_repulsion_fn(
                lengths[:count], prepared.attributes, ends[:, :count], module.atomic_numbers
            )
            energy = energy + repulsion[:sites]
        if hasattr(module, "scale_shift"):
            energy = module.scale_shift(energy, heads)
        return energy

    def prepare_kernels(self, elements: NDArray[np.intp]) -> None:
        """Prepare kernels for these elements; drop those that do not agree with their modules."""
        present = np.unique(elements).tolist()
        for depth, fast in enumerate(self.contractions):
            if fast and replacement(partial(fast.prepare, present), "contraction") is None:
                self.contractions[depth] = None
        for module in self.module.modules():
            if isinstance(module, ElementLinear):
                module.add_elements(present)

    def _groups(self, elements: NDArray[np.intp]) -> tuple[Group, ...]:
        present = np.unique(elements).tolist()
        if len(present) == 1:
            return ((present[0], None),)
        return tuple((z, self._tensor(np.flatnonzero(elements == z))) for z in present)

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def _contraction(
    product: Any, device: torch.device, dtype: torch.dtype
) -> ElementContraction | None:
    return replacement(
        lambda: ElementContraction(product.symmetric_contractions, device, dtype), "contraction"
    )


def _use_kernels(interaction: Any) -> None:
    """Replace the convolution, where mace would put a fused one, and the skip connection."""
    if type(interaction).__module__ != "mace.modules.blocks" or hasattr(interaction, "conv_fusion"):
        return
    convolution = replacement(lambda: Convolution(interaction.conv_tp), "convolution")
    if convolution is not None:
        interaction.conv_tp, interaction.conv_fusion = convolution, True
    if hasattr(interaction, "skip_tp"):
        skip = replacement(lambda: ElementLinear(interaction.skip_tp), "skip connection")
        if skip is not None:
            interaction.skip_tp = skip
