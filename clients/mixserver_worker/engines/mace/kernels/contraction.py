r"""MACE's symmetric contraction as one polynomial per element.

For an atom of element z the module computes, channel by channel,

.. math::
    P_w(x) = \sum_i a_{wi} x_i + \sum_{ij} a_{wij} x_i x_j + \sum_{ijk} a_{wijk} x_i x_j x_k,
    \qquad a_{wi\dots} = \sum_p U_{wi\dots p} W_{zp}

through large intermediates, and again for the gradient. Only the part of a that is symmetric in
i, j, k matters, so the Jacobian dP_w/dx_i is linear in the features 1, x_j, x_j x_k (j <= k): one
matrix product gives P and the Jacobian, and the gradient is a sum over w. Results agree with the
module's except for rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any, Final, TypeAlias

import torch

from mixserver_worker.engines.mace.kernels import UnsupportedModule, check_agreement

_HIGHEST: Final = 3
"""Correlation: degree of the polynomial."""

Group: TypeAlias = tuple[int, torch.Tensor | None]
"""An element and its rows; None stands for all rows."""


class ElementContraction:
    """Replaces a `SymmetricContraction` of mace 0.3.

    Args:
        module: the contraction, on the CPU; it is not changed.
        device: where to compute.
        dtype: in which precision.

    Raises:
        UnsupportedModule: it is another module, or of higher degree.
    """

    def __init__(self, module: Any, device: torch.device, dtype: torch.dtype) -> None:
        if type(module).__name__ != "SymmetricContraction":
            raise UnsupportedModule(type(module).__name__)
        if max(int(part.correlation) for part in module.contractions) > _HIGHEST:
            raise UnsupportedModule("the correlation is above 3")
        self.module = copy.deepcopy(module).double()
        self._device, self._dtype = device, dtype
        lowest = [part.U_tensors(1) for part in module.contractions]
        self.inputs = int(lowest[0].shape[-2])
        self._widths = tuple(u.numel() // (u.shape[-1] * u.shape[-2]) for u in lowest)
        self._elements = int(module.contractions[0].weights_max.shape[0])
        self._known: dict[int, torch.Tensor] = {}

    def __call__(self, x: torch.Tensor, groups: Sequence[Group]) -> torch.Tensor:
        """Contract messages.

        Args:
            x: (b, channels, inputs), messages.
            groups: the rows of each element; the elements must have been prepared.

        Returns:
            (b, sum of channels x outputs), as the module returns it.
        """
        if self._elements == 1:
            groups = ((0, None),)
        work = [(self._known[element], rows) for element, rows in groups]
        return _evaluated(x, self._widths, work)

    def prepare(self, elements: Iterable[int]) -> ElementContraction:
        """Make the polynomials of these elements.

        Raises:
            UnsupportedModule: module and polynomial do not agree.
        """
        shared = self._elements == 1  # one product for all elements
        for element in {0} if shared else set(elements).difference(self._known):
            exact = self._derived(element)
            self.compare(element, exact)
            self._known[element] = exact.to(device=self._device, dtype=self._dtype)
        return self

    def _derived(self, element: int) -> torch.Tensor:
        """(channels, features, 2 x outputs x inputs): for P = sum_i K_i x_i, and the Jacobian."""
        n = self.inputs
        halves: list[torch.Tensor] = []
        for scale in (lambda _: 1.0, float):
            outputs = []
            for part, width in zip(self.module.contractions, self._widths, strict=True):
                rows = [
                    scale(degree) * _tensor(part, element, degree, width, n)
                    for degree in range(1, _HIGHEST + 1)
                ]
                outputs.append(torch.cat(rows, dim=1))
            halves.append(torch.cat(outputs, dim=2).flatten(2))
        return torch.cat(halves, dim=2).detach()

    def compare(self, element: int, coefficients: torch.Tensor) -> None:
        """Compare with the module; raises `UnsupportedModule` if they differ."""
        dice = torch.Generator().manual_seed(1)
        x = torch.randn(3, coefficients.shape[0], self.inputs, generator=dice, dtype=torch.float64)
        attributes = torch.zeros(3, self._elements, dtype=torch.float64)
        attributes[:, element] = 1.0
        got = _evaluated(x, self._widths, [(coefficients, None)])
        expected = self.module(x, attributes).detach()
        check_agreement(got, expected)


def _tensor(part: Any, element: int, degree: int, width: int, n: int) -> torch.Tensor:
    """One degree, (channels, features, width, n): symmetric, the last factor x_i split off."""
    order = int(part.correlation)
    channels = part.weights_max.shape[2]
    features = {1: 1, 2: n, 3: n * (n + 1) // 2}[degree]
    if degree > order:
        return torch.zeros(channels, features, width, n, dtype=torch.float64)
    weight = part.weights_max if degree == order else part.weights[order - 1 - degree]
    coupling = part.U_tensors(degree).reshape(width, *[n] * degree, -1)
    full = torch.einsum("w...p,pc->cw...", coupling, weight[element])
    axes = range(2, 2 + degree)
    turns = [full.permute(0, 1, *turn) for turn in permutations(axes)]
    full = torch.stack(turns).mean(dim=0)
    if degree == 1:
        return full[:, None]
    if degree == 2:
        return full.movedim(2, 1)
    first, second = torch.triu_indices(n, n)
    packed = full[:, :, first, second].movedim(2, 1)
    twice = torch.where(first == second, 1.0, 2.0).to(torch.float64)
    return packed * twice[:, None, None]


def _evaluated(
    x: torch.Tensor,
    widths: tuple[int, ...],
    work: list[tuple[torch.Tensor, torch.Tensor | None]],
) -> torch.Tensor:
    """(b, sum of channels x outputs), irrep by irrep as mace has it."""
    outputs: torch.Tensor = _Evaluate.apply(  # type: ignore[no-untyped-call]
        x, sum(widths), work
    )
    parts = torch.split_with_sizes(outputs, widths, 2)
    return torch.cat([part.flatten(1) for part in parts], dim=1)


class _Evaluate(torch.autograd.Function):
    """P_w(x) of every row and channel, (b, channels, outputs); keeps the Jacobian."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        width: int,
        work: list[tuple[torch.Tensor, torch.Tensor | None]],
    ) -> torch.Tensor:
        rows, channels, inputs = x.shape
        outputs = x.new_empty(channels, rows, width)
        slopes = []
        for coefficients, which in work:
            mine = (x if which is None else x[which]).transpose(0, 1).contiguous()
            # x_j x_k, j <= k, row by row: picking both by index is many times slower
            pairwise = [mine[:, :, j, None] * mine[:, :, j:] for j in range(inputs)]
            features = torch.cat((torch.ones_like(mine[:, :, :1]), mine, *pairwise), dim=2)
            both = torch.bmm(features, coefficients).view(channels, -1, 2, width, inputs)
            value = torch.matmul(both[:, :, 0], mine[:, :, :, None]).squeeze(3)
            slopes.append(both[:, :, 1])
            if which is None:
                outputs = value
            else:
                outputs[:, which] = value
        ctx.slopes = slopes
        ctx.rows = [which for _, which in work]
        return outputs.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        gradient = gradients[0].transpose(0, 1)
        back = gradient.new_empty(*gradient.shape[:2], ctx.slopes[0].shape[3])
        for slope, which in zip(ctx.slopes, ctx.rows, strict=True):
            mine = gradient if which is None else gradient[:, which]
            part = torch.matmul(mine[:, :, None, :], slope).squeeze(2)
            if which is None:
                back = part
            else:
                back[:, which] = part
        return back.transpose(0, 1), None, None
