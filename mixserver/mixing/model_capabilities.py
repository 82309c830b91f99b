"""What mixing must know of a model: its receptive field, and whether it weights site energies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from mixserver.core.errors import ConfigError
from mixserver.wire.worker import ModelCard

ROUNDING: Final = 1e-6
"""Å added to exact widths: workers compute distances in their own order, and an atom exactly at
the cutoff of a potential that is not smooth there must not be lost."""


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """The receptive field of a model, and which site energies its workers return."""

    receptive_field: float | None
    """Å around a site on which its energy depends; None if unknown."""
    weights: bool = False
    """True if its workers honour site weights."""
    name: str = "expensive"
    """Name of the model, for messages only."""
    energies: bool = False
    """True if its workers return site energies."""
    no_weights: str = ""
    """Why its workers do not honour site weights, if they gave a reason."""

    @classmethod
    def of(cls, card: ModelCard, stated: float | None = None) -> ModelCapabilities:
        """Capabilities from a model's card; `stated` (Å) where it lacks a receptive field."""
        field = card.receptive_field if card.receptive_field is not None else stated
        return cls(field, card.weights, card.name, card.energies, card.no_weights)

    @property
    def known_field(self) -> float | None:
        """The receptive field if it is known and finite, Å."""
        field = self.receptive_field
        return field if field is not None and math.isfinite(field) else None


def check_weightable(role: str, model: ModelCapabilities, energies: bool) -> None:
    """Check that a model can be mixed by energies.

    Args:
        role: of the model, for the message.
        model: its capabilities.
        energies: whether its site energies will be needed.

    Raises:
        ConfigError: it cannot.
    """
    lacking = "" if model.weights else "weight site energies"
    if not lacking and energies and not model.energies:
        lacking = "return site energies, which a lambda that moves or jumps needs"
    if lacking:
        why = f": {model.no_weights}" if model.no_weights and not model.weights else ""
        raise ConfigError(
            f"mixing.kind = 'energy' needs site energies of both models, but the {role} model "
            f"{model.name!r} cannot {lacking}{why}. Take a model that can (SNAP and pairwise "
            "styles in LAMMPS, MACE), or mixing.kind = 'force'."
        )


def resolve_width(
    key: str, width: float | None, model: ModelCapabilities, allow_thin: bool
) -> float:
    """The width of a buffer or halo, in Å; None asks for one receptive field.

    Raises:
        ConfigError: it is too thin or unknown.
    """
    field = model.known_field
    if width is None:
        if field is None:
            raise ConfigError(
                f'region.{key} = "exact" needs the receptive field of model {model.name!r}, which '
                "it does not state. State it as models.expensive.receptive_field (Å), or give "
                f"region.{key} in Å."
            )
        return field + ROUNDING
    if not (math.isfinite(width) and width >= 0.0):
        raise ConfigError(f"region.{key} must be 0 Å or more, got {width}")
    if field is not None and width < field and not allow_thin:
        raise ConfigError(
            f"region.{key} = {width} Å is thinner than the receptive field of model "
            f"{model.name!r} ({field} Å), so forces would depend on where the cluster was cut. Set "
            f'it to "exact" or to {field} or more, or set region.allow_thin_buffer = true if you '
            "have measured the error (mixserver check does)."
        )
    return width
