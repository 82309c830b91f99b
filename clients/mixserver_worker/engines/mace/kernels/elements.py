r"""MACE's skip connection as one linear map per element that is present.

A skip connection of MACE is a fully connected tensor product of features with the one-hot
attributes of an atom, :math:`y_{b w m} = \alpha \sum_{u z} x_{b u m} a_{b z} W_{u z w}`: in a model
for 89 elements almost all of its terms are zero. Here only elements that were added are summed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from mixserver_worker.engines.mace.kernels import UnsupportedModule, check_agreement


@dataclass(frozen=True, slots=True)
class _Path:
    """Where the features of one irrep are."""

    first: slice
    channels: int
    components: int


class ElementLinear(torch.nn.Module):
    """Replaces the `skip_tp` of an interaction block of mace 0.3.

    Args:
        product: e3nn's FullyConnectedTensorProduct, in float64 on the CPU; it is not changed.

    Raises:
        UnsupportedModule: it is another module, or does not agree.
    """

    def __init__(self, product: Any) -> None:
        super().__init__()
        if type(product).__name__ != "FullyConnectedTensorProduct":
            raise UnsupportedModule(type(product).__name__)
        ((elements, scalar),) = product.irreps_in2
        steps = {step.i_out: (at, step) for at, step in enumerate(product.instructions)}
        if scalar.dim != 1 or len(steps) < len(product.instructions):
            raise UnsupportedModule(str(product))
        firsts = product.irreps_in1.slices()
        self._paths: list[_Path | int] = []  # a number counts outputs that are always 0
        for output, (many, irrep) in enumerate(product.irreps_out):
            if output not in steps:
                self._paths.append(many * irrep.dim)
                continue
            at, step = steps[output]
            own = product.weight_view_for_instruction(at).detach() * step.path_weight
            # the coupling of l with a scalar is 1 / sqrt(2 l + 1) on the diagonal
            own = own.movedim(1, 0) / irrep.dim**0.5
            self.register_buffer(f"weight_{output}", own.clone(), persistent=False)
            channels = product.irreps_in1[step.i_in1].mul
            self._paths.append(_Path(firsts[step.i_in1], channels, irrep.dim))
        self._present: tuple[int, ...] = ()
        self.add_elements(range(elements))
        self.compare(product, elements)
        self._present = ()

    def add_elements(self, elements: Iterable[int]) -> None:
        """Include these elements in the sum from now on."""
        self._present = tuple(sorted({*self._present, *elements}))

    def forward(self, x: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        """Apply the map of its element to every atom.

        Args:
            x: (b, ...) features.
            attributes: (b, elements) one-hot, of elements that were added.
        """
        outputs = []
        for at, path in enumerate(self._paths):
            if isinstance(path, int):
                outputs.append(x.new_zeros(len(x), path))
                continue
            weight = self.get_buffer(f"weight_{at}")
            own = x[:, path.first].reshape(-1, path.channels, path.components).transpose(1, 2)
            total: torch.Tensor | None = None
            for element in self._present:
                part = own @ weight[element]
                if len(self._present) > 1:
                    part = part * attributes[:, element, None, None]
                total = part if total is None else total + part
            if total is None:
                raise ValueError("no element was added")
            outputs.append(total.transpose(1, 2).flatten(1))
        return torch.cat(outputs, dim=1)

    def compare(self, product: Any, elements: int) -> None:
        """Compare with the module; raises `UnsupportedModule` if they differ."""
        dice = torch.Generator().manual_seed(1)
        x = torch.randn(elements, product.irreps_in1.dim, generator=dice, dtype=torch.float64)
        attributes = torch.eye(elements, dtype=torch.float64)
        expected = product(x, attributes).detach()
        check_agreement(self(x, attributes), expected)
