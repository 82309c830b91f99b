"""Site energies of a NequIP or Allegro model, module by module.

Such a model is a chain of modules that add fields to a dictionary. An edge here points from the
sender to the receiver; in nequip, edge_index is (centre, neighbour) and the vector points from the
centre, which is our receiver, to the neighbour. Before each layer after the first, fields are cut
to the atoms and edges that it and later layers need, see `torch.graph`. Units: Å, eV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch

from mixserver.core.errors import ConfigError
from mixserver_worker.engines.elements import NUMBERS
from mixserver_worker.engines.nequip.package import Package
from mixserver_worker.engines.torch.graph import Graph
from mixserver_worker.engines.torch.site_model import Edges

_LAYER: Final = "ConvNetLayer"
"""Sums messages of neighbours: one more edge of receptive field."""
_LOCAL: Final = "Allegro_Module"
"""Looks at the edges of one atom only, however many layers it has itself."""
_OF_ATOMS_AND_EDGES: Final = frozenset(
    {"NodeTypeEmbed", "SphericalHarmonicEdgeAttrs", "EdgeLengthNormalizer", "ApplyFactor"}
    | {"BesselEdgeLengthEncoding", "AddRadialCutoffToData", "ProductTypeEmbedding"}
    | {"TwoBodySplineScalarEmbed", "TwoBodySphericalHarmonicTensorEmbed", "ScalarMLP"}
    | {"AtomwiseLinear", "AtomwiseOperation", "PerTypeScaleShift", "Concat", "SaveForOutput"}
)
"""Modules that combine fields of the same atom or edge."""
_SUMS_OF_EDGES: Final = frozenset({"EdgewiseReduce", "ZBL", "LennardJones", "SimpleLennardJones"})
"""Modules that sum fields of an atom's edges into its energy."""
_TOTAL: Final = "AtomwiseReduce"
_ENERGY: Final = "atomic_energy"


class NequipSites:
    """A packaged model that returns site energies.

    Args:
        package: the model.
        device: of torch.
        cut: whether to evaluate layers after the first only where later ones need them.

    Raises:
        ConfigError: the model has a module or an atom type that is not known here, so that its
            receptive field or its elements are not known.
    """

    isolated: Mapping[int, float] = {}

    def __init__(self, package: Package, device: torch.device, *, cut: bool = True) -> None:
        self.species = _species(package)
        chain = package.module.model
        while hasattr(chain, "func"):  # modules around it that differentiate the energy
            chain = chain.func
        kinds = [name for module in _flat(chain) if (name := type(module).__name__)]
        known = _OF_ATOMS_AND_EDGES | _SUMS_OF_EDGES | {_LAYER, _LOCAL, _TOTAL}
        if unknown := sorted(set(kinds) - known):
            raise ConfigError(
                f"the model {package.name} has modules of unknown receptive field: "
                f"{', '.join(unknown)}. Without site weights, for force mixing: mixserver-worker "
                "ase MODULE:FUNCTION, a function of yours that returns nequip's ASE calculator"
            )
        self.layers = max(1, kinds.count(_LAYER) + (_LOCAL in kinds))
        self.cutoff = package.cutoff
        module = package.module.to(device).eval().requires_grad_(False)
        self.module, self._cut = module, cut
        self._chain = [one for one in chain.children() if type(one).__name__ != _TOTAL]
        self._types = torch.zeros(max(self.species) + 1, dtype=torch.int64, device=device)
        for kind, number in enumerate(self.species):
            self._types[number] = kind
        self.pair_cutoffs: torch.Tensor | None = None
        """(types, types) Å, by type of the centre and of the neighbour."""
        if package.pair_cutoffs is not None:
            limits = torch.tensor(package.pair_cutoffs, dtype=torch.float64, device=device)
            self.pair_cutoffs = limits.reshape(len(self.species), len(self.species))

    def prepare(self, graph: Graph, numbers: torch.Tensor) -> torch.Tensor:
        """(M,) atom types."""
        del graph
        return self._types[numbers]

    def site_energies(self, prepared: torch.Tensor, edges: Edges) -> torch.Tensor:
        """(n_0,) float64 eV of the sites."""
        edges = self._within_pair_cutoffs(prepared, edges)
        fields = {
            "pos": edges.vectors.new_zeros(len(prepared), 3),  # for their number alone
            "atom_types": prepared,
            "edge_index": edges.ends.flip(0).contiguous(),
            "edge_vectors": -edges.vectors,
        }
        layer = 0
        with double_by_default():
            for module in self._chain:
                if type(module).__name__ == _LAYER:
                    if self._cut and layer:
                        part = edges.prefix(layer)
                        fields = _first(fields, part.senders, part.edges)
                    layer += 1
                fields = module(fields)
        energies: torch.Tensor = fields[_ENERGY][: edges.atoms[0]].squeeze(1)
        return energies.double()

    def _within_pair_cutoffs(self, types: torch.Tensor, edges: Edges) -> Edges:
        """The edges within the cutoff of their pair of types, as nequip selects them."""
        if self.pair_cutoffs is None:
            return edges
        sender, receiver = types[edges.ends]
        lengths = torch.linalg.vector_norm(edges.vectors.detach(), dim=1)
        near = lengths <= self.pair_cutoffs[receiver, sender]
        before = torch.cat((near.new_zeros(1, dtype=torch.int64), near.cumsum(0)))
        counts = tuple(int(before[count]) for count in edges.counts)
        return Edges(edges.vectors[near], edges.ends[:, near], counts, edges.atoms)


@contextmanager
def double_by_default() -> Iterator[None]:
    """Make float64 torch's default, as nequip's code expects."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _species(package: Package) -> tuple[int, ...]:
    unknown = [symbol for symbol in package.symbols if symbol not in NUMBERS]
    if unknown or len(set(package.symbols)) < len(package.symbols):
        raise ConfigError(
            f"the atom types of the model {package.name} are {', '.join(package.symbols)}; "
            "expected the symbol of an element for each"
        )
    return tuple(NUMBERS[symbol] for symbol in package.symbols)


def _flat(chain: Any) -> Iterator[Any]:
    """The modules of a chain, those of chains in it too."""
    for module in chain.children():
        if type(module).__name__ == type(chain).__name__:
            yield from _flat(module)
        else:
            yield module


def _first(fields: dict[str, Any], atoms: int, edges: int) -> dict[str, Any]:
    """Cut fields to the first atoms and edges."""
    had = len(fields["pos"])
    cut: dict[str, Any] = {}
    for name, field in fields.items():
        if name in {"edge_index", "edge_type_flat"}:
            cut[name] = field[:, :edges].contiguous()
        elif name.startswith(("edge_", "normed_edge_")):
            cut[name] = field[:edges]
        elif len(field) == had:
            cut[name] = field[:atoms]
        else:
            raise ValueError(f"the field {name} has {len(field)} rows for {had} atoms")
    return cut
