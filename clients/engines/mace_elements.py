r"""MACE's products with the one-hot element, as one linear map per element that is present.

A skip connection of MACE is a fully connected tensor product of features with the one-hot
attributes of an atom, :math:`y_{b w m} = \alpha \sum_{u z} x_{b u m} a_{b z} W_{u z w}`: of a model
for 89 elements all but a few of its terms are zero. Here only the elements that were announced
are summed up. The result is compared with the module's when it is made.

Imports torch; knows no graphs and no jobs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch

_AGREEMENT: Final = 1e-10
"""Relative, between the two ways in float64."""


class NotElementwiseError(Exception):
    """A tensor product is not what this file knows how to replace."""


@dataclass(frozen=True, slots=True)
class _Path:
    """Where the features of one irrep are; a plain number is that of outputs nothing leads to."""

    first: slice
    channels: int
    components: int


class ElementLinear(torch.nn.Module):
    """Replaces the `skip_tp` of an interaction block of mace 0.3.

    Args:
        product: e3nn's FullyConnectedTensorProduct, in float64 on the CPU; it is not changed.

    Raises:
        NotElementwiseError: it is another module, or does not agree.
    """

    def __init__(self, product: Any) -> None:
        super().__init__()
        if type(product).__name__ != "FullyConnectedTensorProduct":
            raise NotElementwiseError(type(product).__name__)
        ((elements, scalar),) = product.irreps_in2
        steps = {step.i_out: (at, step) for at, step in enumerate(product.instructions)}
        if scalar.dim != 1 or len(steps) < len(product.instructions):
            raise NotElementwiseError(str(product))
        firsts = product.irreps_in1.slices()
        self._paths: list[_Path | int] = []
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
        self.announce(range(elements))
        self._compare(product, elements)
        self._present = ()

    def announce(self, elements: Iterable[int]) -> None:
        """From now on these elements may come too."""
        self._present = tuple(sorted({*self._present, *elements}))

    def forward(self, x: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        """Apply to every atom the map of its element.

        Args:
            x: (b, ...) features.
            attributes: (b, elements) one-hot, of elements that were announced.
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
                raise ValueError("no element was announced")
            outputs.append(total.transpose(1, 2).flatten(1))
        return torch.cat(outputs, dim=1)

    def _compare(self, product: Any, elements: int) -> None:
        dice = torch.Generator().manual_seed(1)
        x = torch.randn(elements, product.irreps_in1.dim, generator=dice, dtype=torch.float64)
        attributes = torch.eye(elements, dtype=torch.float64)
        expected = product(x, attributes).detach()
        apart = float((self(x, attributes) - expected).abs().max())
        if not apart <= _AGREEMENT * float(expected.abs().max()):
            raise NotElementwiseError(f"off by {apart}")
