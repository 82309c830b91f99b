r"""MACE's convolution as small matrix products per receiving atom.

The module computes the message of every edge, channels x components numbers, and sums them. Here
each path (l1, l2, l3) of the tensor product,

.. math::
    M_{r c m_3} = \sum_{e \to r} \sum_{m_1} (w_{ec}\, f_{s(e) c m_1})\, Z_{e m_1 m_3}, \qquad
    Z_{e m_1 m_3} = \sum_{m_2} C_{m_1 m_2 m_3} Y_{e m_2}

is one product of matrices per receiver r, over its edges (padded with zeros to the longest list),
so the messages of single edges are never stored. C is read off the module by evaluating it for unit
vectors. Results agree with the module's except for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mixserver_worker.engines.mace.kernels import UnsupportedModule, check_agreement


@dataclass(frozen=True, slots=True)
class _Path:
    """One path of the tensor product, and where its data are."""

    weights: slice
    first: slice
    edge: int
    """Index of the edge's irrep."""
    channels: int
    sizes: tuple[int, int, int]
    """Components of the features, the edge and the message: d1, d2, d3."""


class Convolution(torch.nn.Module):
    """Replaces the `conv_tp` of an interaction block of mace 0.3 that has `conv_fusion` set.

    Args:
        product: e3nn's TensorProduct, in float64 on the CPU; it is not changed.

    Raises:
        UnsupportedModule: it is another module, mixes channels, or does not agree.
    """

    def __init__(self, product: Any) -> None:
        super().__init__()
        if type(product).__name__ != "TensorProduct" or not hasattr(product, "instructions"):
            raise UnsupportedModule(type(product).__name__)
        firsts = product.irreps_in1.slices()
        messages = product.irreps_out.slices()
        self._edge_irreps = [irrep.dim for _, irrep in product.irreps_in2]
        used = 0
        self._paths: list[_Path] = []
        for at, step in enumerate(product.instructions):
            mul, irrep = product.irreps_in1[step.i_in1]
            one, edge = product.irreps_in2[step.i_in2]
            total, out = product.irreps_out[step.i_out]
            # every path has its own output, in order, channel by channel
            found = (step.connection_mode, step.has_weight, one, total, step.i_out)
            if found != ("uvu", True, 1, mul, at):
                raise UnsupportedModule(str(step))
            path = _Path(
                weights=slice(used, used + mul),
                first=firsts[step.i_in1],
                edge=step.i_in2,
                channels=mul,
                sizes=(irrep.dim, edge.dim, out.dim),
            )
            used += mul
            self._paths.append(path)
            coupling = _couplings(product, path, messages[at])
            self.register_buffer(f"coupling_{at}", coupling, persistent=False)
        if len(messages) != len(self._paths):
            raise UnsupportedModule("it has outputs without a path")
        self.compare(product)

    def forward(
        self,
        features: torch.Tensor,
        harmonics: torch.Tensor,
        weights: torch.Tensor,
        ends: torch.Tensor,
    ) -> torch.Tensor:
        """Sum the messages to every atom.

        Args:
            features: (N, ...) of the senders.
            harmonics: (E, ...) spherical harmonics of the edges.
            weights: (E, channels x paths).
            ends: (2, E) senders and receivers, receivers ascending.

        Returns:
            (N, ...) messages; 0 for atoms that receive none.
        """
        sender, receiver = ends
        edges = len(sender)
        counts = torch.bincount(receiver)
        longest = int(counts.max()) if edges else 0
        starts = counts.cumsum(0) - counts
        every = torch.arange(edges, device=receiver.device)
        slots = receiver * longest + every - starts[receiver]
        sent: dict[int, torch.Tensor] = {}
        by_path = torch.split_with_sizes(weights, [path.channels for path in self._paths], 1)
        by_irrep = torch.split_with_sizes(harmonics, self._edge_irreps, 1)
        messages = []
        for at, path in enumerate(self._paths):
            d1, _, d3 = path.sizes
            if path.first.start not in sent:
                own = features[:, path.first].reshape(-1, path.channels, d1).transpose(1, 2)
                sent[path.first.start] = own.contiguous().index_select(0, sender)
            weighted = by_path[at][:, None] * sent[path.first.start]
            coupled = by_irrep[path.edge] @ self.get_buffer(f"coupling_{at}")
            coupled = coupled.view(-1, d1, d3)
            message = _sum_edges(weighted, coupled, slots, len(counts), longest)
            messages.append(message.flatten(1))
        total = torch.cat(messages, dim=1)
        return torch.nn.functional.pad(total, (0, 0, 0, len(features) - len(total)))

    def compare(self, product: Any) -> None:
        """Compare with the module; raises `UnsupportedModule` if they differ."""
        dice = torch.Generator().manual_seed(1)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=dice, dtype=torch.float64)

        ends = torch.tensor([[0, 1, 2, 3, 1, 2], [0, 0, 0, 1, 1, 3]])
        features, harmonics = random(5, product.irreps_in1.dim), random(6, product.irreps_in2.dim)
        weights = random(6, product.weight_numel)
        got = self(features, harmonics, weights, ends)
        expected = torch.zeros_like(got)
        expected.index_add_(0, ends[1], product(features[ends[0]], harmonics, weights).detach())
        check_agreement(got, expected)


def _couplings(product: Any, path: _Path, message: slice) -> torch.Tensor:
    """(d2, d1 * d3) coupling coefficients of one path, with the module's normalisation."""
    d1, d2, d3 = path.sizes
    first = torch.zeros(d1, d2, product.irreps_in1.dim, dtype=torch.float64)
    second = torch.zeros(d1, d2, product.irreps_in2.dim, dtype=torch.float64)
    seconds = product.irreps_in2.slices()[path.edge]
    weights = torch.zeros(d1 * d2, product.weight_numel, dtype=torch.float64)
    for m in range(d1):
        first[m, :, path.first.start + m] = 1.0
    for m in range(d2):
        second[:, m, seconds.start + m] = 1.0
    weights[:, path.weights.start] = 1.0
    out = product(first.flatten(0, 1), second.flatten(0, 1), weights).detach()
    own: torch.Tensor = out[:, message.start : message.start + d3]
    return own.reshape(d1, d2, d3).transpose(0, 1).flatten(1).contiguous()


def _sum_edges(
    weighted: torch.Tensor,
    coupled: torch.Tensor,
    slots: torch.Tensor,
    receivers: int,
    longest: int,
) -> torch.Tensor:
    """(receivers, c, d3): sum of weighted (E, d1, c) x coupled (E, d1, d3) over edges and m1."""
    total: torch.Tensor = _SumEdges.apply(  # type: ignore[no-untyped-call]
        weighted, coupled, slots, receivers, longest
    )
    return total


class _SumEdges(torch.autograd.Function):
    """The product of two matrices per receiver, and its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        weighted: torch.Tensor,
        coupled: torch.Tensor,
        slots: torch.Tensor,
        receivers: int,
        longest: int,
    ) -> torch.Tensor:
        left = _padded(weighted, slots, receivers, longest)
        right = _padded(coupled, slots, receivers, longest)
        ctx.save_for_backward(left, right, slots)
        ctx.d1 = weighted.shape[1]
        return torch.bmm(left.transpose(1, 2), right)

    @staticmethod
    def backward(
        ctx: Any, *gradients: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        left, right, slots = ctx.saved_tensors
        gradient = gradients[0]
        to_left = torch.bmm(right, gradient.transpose(1, 2))
        to_right = torch.bmm(left, gradient)
        return (
            _unpadded(to_left, slots, ctx.d1),
            _unpadded(to_right, slots, ctx.d1),
            None,
            None,
            None,
        )


def _padded(
    values: torch.Tensor, slots: torch.Tensor, receivers: int, longest: int
) -> torch.Tensor:
    """(E, d1, k) -> (receivers, longest x d1, k), padded with zeros."""
    full = values.new_zeros(receivers * longest, values.shape[1] * values.shape[2])
    full.index_copy_(0, slots, values.flatten(1))
    return full.view(receivers, longest * values.shape[1], values.shape[2])


def _unpadded(values: torch.Tensor, slots: torch.Tensor, d1: int) -> torch.Tensor:
    """(receivers, longest x d1, k) -> (E, d1, k)."""
    width = values.shape[2]
    return values.reshape(-1, d1 * width).index_select(0, slots).view(-1, d1, width)
