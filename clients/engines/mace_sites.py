"""Weighted site energies of a MACE model and their gradient: the only place that knows MACE inside.

E = sum_i w_i e_i is differentiated with respect to the edge vectors, which are formed and summed
up again in float64 whatever the model's precision; forces and the virial are sums over edges.
Layers are evaluated on the prefixes that `mace_graph.prune` prepared, which is exact: what is
left out reaches no site with weight.

Imports torch; knows nothing of jobs, files and streams. Units: Å, eV.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from clients.engines.mace_contraction import ElementContraction, Group, NotPolynomialError
from clients.engines.mace_convolution import Convolution, NotUvuError
from clients.engines.mace_elements import ElementLinear, NotElementwiseError
from clients.engines.mace_graph import Graph
from mixserver.arrays import Matrix, Scalars, Vectors

_log = logging.getLogger("mixserver.mace")

_OVERLAP: Final = 1e-3
"""Å. Closer atoms are on top of each other; the direction between them means nothing."""


class OverlapError(ValueError):
    """Two atoms are on top of each other."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A graph and what depends on it and the elements only, on the device."""

    atoms: tuple[int, ...]
    edges: torch.Tensor
    ends: torch.Tensor
    """(2, E) senders, receivers."""
    shift: torch.Tensor
    """(E, 3) float64 Å."""
    attributes: torch.Tensor
    """(M, elements) one-hot."""
    features: torch.Tensor
    """(M, channels) what the first layer starts from."""
    heads: torch.Tensor
    """(M,) the head, over and over."""
    isolated: torch.Tensor
    """(n_0,) float64 eV, energies of the isolated atoms."""
    groups: tuple[tuple[Group, ...], ...]
    """L times: which of the atoms within 0, 1, ... L - 1 edges are which element."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """The weighted energy of a graph, with everything it implies."""

    energy: float
    """eV."""
    forces: Vectors
    """(M, 3) eV/Å, in the graph's order."""
    virial: Matrix
    """(3, 3) eV, -dE/dstrain."""
    energies: Scalars
    """(n_0,) eV, unweighted."""


class SiteModel:
    """A MACE module, evaluated site by site.

    Args:
        module: a `mace.modules.MACE` or `ScaleShiftMACE`; it is changed in place.
        device: of torch.
        dtype: precision of the model's arithmetic.
        head: index of the head.
        fast: put faster parts in place of some of its modules.
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
        self._isolated = energies[head].to(device=device, dtype=torch.float64)
        module = module.to(device="cpu", dtype=torch.float64).eval().requires_grad_(False)
        self._contractions = [
            _contraction(product, device, dtype) if fast else None for product in module.products
        ]
        for interaction in module.interactions if fast else ():
            _speed_up(interaction)
        self._module = module.to(device=device, dtype=dtype)
        self._device = device
        self._dtype = dtype
        self._head = head
        self.cutoff = float(module.r_max)
        self.layers = int(module.num_interactions)
        self.species = tuple(int(z) for z in module.atomic_numbers)
        self._index = np.full(max(self.species) + 1, -1)
        self._index[list(self.species)] = np.arange(len(self.species))

    def place(self, graph: Graph, numbers: NDArray[np.int32]) -> Placed:
        """Bring a graph to the device.

        Args:
            graph: pruned for this model's number of layers.
            numbers: (n,) atomic numbers of all atoms sent, each known to the model.
        """
        places = self._index[numbers[graph.order]]
        self._prepare(places)
        elements = self._tensor(places)
        attributes = torch.nn.functional.one_hot(elements, len(self.species)).to(self._dtype)
        ends = self._tensor(np.stack((graph.sender, graph.receiver)))
        with torch.no_grad():
            features = self._module.node_embedding(attributes)
        return Placed(
            atoms=graph.atoms,
            edges=self._tensor(np.array(graph.edges)),
            ends=ends,
            shift=self._tensor(graph.shift),
            attributes=attributes,
            features=features,
            heads=torch.full_like(elements, self._head),
            isolated=self._isolated[elements[: graph.atoms[0]]],
            groups=tuple(self._groups(places[:count]) for count in graph.atoms[:-1]),
        )

    def weigh(self, placed: Placed, positions: Vectors, weights: Scalars) -> Weighed:
        """Evaluate sum_i w_i e_i and its gradient.

        Args:
            placed: the graph.
            positions: (M, 3) Å in the graph's order.
            weights: (n_0,) of the graph's sites.

        Raises:
            OverlapError: two atoms are on top of each other.
        """
        where = self._tensor(positions)
        sender, receiver = placed.ends
        exact = where[receiver] - where[sender] + placed.shift
        squared = exact.square().sum(dim=1)
        kept = (squared < self.cutoff**2).nonzero().squeeze(1)
        if len(kept) and float(squared.min()) < _OVERLAP**2:
            worst = int(squared.argmin())
            raise OverlapError(int(sender[worst]), int(receiver[worst]))
        exact, ends = exact[kept], placed.ends[:, kept]
        edges: list[int] = torch.searchsorted(kept, placed.edges).tolist()
        vectors = exact.to(self._dtype).detach().requires_grad_(True)
        sites = self._interaction_energies(placed, vectors, ends, edges)
        weight = self._tensor(weights)
        (slope,) = torch.autograd.grad(sites, vectors, weight.to(self._dtype), allow_unused=True)
        energies = sites.detach().double() + placed.isolated
        forces = torch.zeros_like(where)
        virial = torch.zeros(3, 3, dtype=torch.float64, device=self._device)
        if slope is not None:
            slope = slope.double()
            forces.scatter_add_(0, ends[0, :, None].expand_as(slope), slope)
            forces.scatter_add_(0, ends[1, :, None].expand_as(slope), -slope)
            virial = -(slope.T @ exact)
            virial = 0.5 * (virial + virial.T)
        return Weighed(
            energy=float((weight * energies).sum()),
            forces=forces.cpu().numpy(),
            virial=virial.cpu().numpy(),
            energies=energies.cpu().numpy(),
        )

    def _interaction_energies(
        self, placed: Placed, vectors: torch.Tensor, ends: torch.Tensor, edges: list[int]
    ) -> torch.Tensor:
        """(n_0,) eV, site energies without those of the isolated atoms."""
        module = self._module
        sites = placed.atoms[0]
        heads = placed.heads[:sites]
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        harmonics = module.spherical_harmonics(vectors)
        radial, envelope = module.radial_embedding(
            lengths, placed.attributes, ends, module.atomic_numbers
        )
        features = placed.features
        layers: list[torch.Tensor] = []
        for depth, (interaction, product) in enumerate(
            zip(module.interactions, module.products, strict=True)
        ):
            left = self.layers - 1 - depth
            count, senders, receivers = edges[left], placed.atoms[left + 1], placed.atoms[left]
            # Atoms that only send are what MACE calls ghosts when LAMMPS splits a system among
            # processes; as ghosts of a "first layer" they are dropped right after the messages
            # are summed, and nothing is exchanged.
            messages, residual = interaction(
                node_attrs=placed.attributes[:senders],
                node_feats=features[:senders],
                edge_attrs=harmonics[:count],
                edge_feats=radial[:count],
                edge_index=ends[:, :count],
                cutoff=None if envelope is None else envelope[:count],
                lammps_class=self,
                lammps_natoms=(receivers, senders - receivers),
                first_layer=True,
            )
            fast = self._contractions[depth]
            if fast is None:
                features = product(
                    node_feats=messages, sc=residual, node_attrs=placed.attributes[:receivers]
                )
            else:
                features = product.linear(fast(messages, placed.groups[left]))
                if product.use_sc and residual is not None:
                    features = features + residual
            layers.append(features)
        if len(module.readouts) == 1:
            layers = layers[-1:]
        every = torch.arange(sites, device=self._device)
        energy = torch.zeros(sites, dtype=self._dtype, device=self._device)
        for readout, layer in zip(module.readouts, layers, strict=True):
            energy = energy + readout(layer[:sites], heads)[every, heads]
        if hasattr(module, "pair_repulsion"):
            count = edges[0]
            repulsion = module.pair_repulsion_fn(
                lengths[:count], placed.attributes, ends[:, :count], module.atomic_numbers
            )
            energy = energy + repulsion[:sites]
        if hasattr(module, "scale_shift"):
            energy = module.scale_shift(energy, heads)
        return energy

    def _prepare(self, elements: NDArray[np.intp]) -> None:
        """Make the fast parts ready, or do without where they do not agree."""
        present = np.unique(elements).tolist()
        for depth, fast in enumerate(self._contractions):
            try:
                if fast is not None:
                    fast.prepare(present)
            except NotPolynomialError:
                self._contractions[depth] = None
        for module in self._module.modules():
            if isinstance(module, ElementLinear):
                module.announce(present)

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
    try:
        return ElementContraction(product.symmetric_contractions, device, dtype)
    except NotPolynomialError as reason:
        _log.info("MACE's own contraction is used: %s", reason)
        return None


def _speed_up(interaction: Any) -> None:
    """Put our convolution where mace would put a fused one, and a skip connection by element."""
    if type(interaction).__module__ != "mace.modules.blocks" or hasattr(interaction, "conv_fusion"):
        return
    try:
        interaction.conv_tp = Convolution(interaction.conv_tp)
        interaction.conv_fusion = True
    except NotUvuError as reason:
        _log.info("MACE's own convolution is used: %s", reason)
    try:
        if hasattr(interaction, "skip_tp"):
            interaction.skip_tp = ElementLinear(interaction.skip_tp)
    except NotElementwiseError as reason:
        _log.info("MACE's own skip connection is used: %s", reason)
