"""The term that ties two experts together on bulk environments, and its weights over the epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mixserver.wire.training import Agreement, Disagreement

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch


@dataclass(frozen=True, eq=False)
class Prediction:
    """What an expert says of a batch of structures."""

    energies: torch.Tensor
    """(N,) eV, site energies with the energies of free atoms."""
    forces: torch.Tensor
    """(N, 3) eV/Å."""

    def detached(self) -> Prediction:
        """The same as constants."""
        return Prediction(self.energies.detach(), self.forces.detach())


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the agreement at one epoch."""

    energy: float
    forces: float

    def __bool__(self) -> bool:
        return self.energy > 0.0 or self.forces > 0.0


def weights_at(agreement: Agreement, epoch: int, *, stage: int) -> Weights:
    """The weights at an epoch: they rise linearly from `start` over `ramp` epochs."""
    if epoch < agreement.start:
        return Weights(0.0, 0.0)
    share = 1.0
    if agreement.ramp:
        share = min(1.0, (epoch - agreement.start + 1) / agreement.ramp)
    factor = agreement.stage_two if stage > 1 else 1.0
    return Weights(share * factor * agreement.energy, share * agreement.forces)


def disagreement(
    large: Prediction, small: Prediction, mask: torch.Tensor, weights: Weights
) -> torch.Tensor:
    """The loss: w_e <(e_L - e_S)²> + w_f <|f_L - f_S|²> over the atoms of `mask` (N,)."""
    energy = (large.energies - small.energies)[mask].square().mean()
    forces = (large.forces - small.forces)[mask].square().sum(dim=1).mean()
    return weights.energy * energy + weights.forces * forces


def measure(
    pairs: Iterable[tuple[Prediction, Prediction, torch.Tensor, torch.Tensor]],
) -> Disagreement | None:
    """Differences over batches of (large, small, mask, elements (N,)); None without a batch."""
    import torch

    energies, forces, elements = [], [], []
    for large, small, mask, kind in pairs:
        energies.append((large.energies - small.energies).detach()[mask].double().cpu())
        forces.append((large.forces - small.forces).detach()[mask].double().cpu())
        elements.append(kind[mask].cpu())
    if not energies:
        return None
    energy, element = torch.cat(energies), torch.cat(elements)
    centred = energy.clone()
    for number in set(element.tolist()):
        same = element == number
        centred[same] -= centred[same].mean()
    return Disagreement(energy=_rms(energy), forces=_rms(torch.cat(forces)), spread=_rms(centred))


def _rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())
