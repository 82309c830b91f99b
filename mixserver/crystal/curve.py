"""Energy against volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixserver.arrays import Scalars
from mixserver.crystal.asking import Ask, together
from mixserver.crystal.inside import Constants, relaxed_inside
from mixserver.errors import ConfigError
from mixserver.frame import Frame


@dataclass(frozen=True, eq=False)
class EnergyCurve:
    """Energies of a crystal that is stretched alike in all directions."""

    volume: Scalars
    """(m,) Å³ an atom, ascending."""
    energy: Scalars
    """(m,) eV an atom."""


async def energy_curve(
    ask: Ask,
    crystal: Frame,
    *,
    by: float = 0.06,
    points: int = 13,
    constants: Constants | None = None,
) -> EnergyCurve:
    """Energy per atom against volume per atom.

    Args:
        ask: the model.
        crystal: at rest.
        by: how much of its volume is taken away and added at the ends.
        points: volumes, evenly spaced.
        constants: from `force_constants`; if given, atoms relax at every volume.

    Raises:
        ConfigError: `by` or `points` make no curve, or atoms do not come to rest.
    """
    if not (0.0 < by < 0.5 and points >= 3):
        raise ConfigError(
            f"a curve takes 3 points or more and 0 < by < 0.5, not {points} points and by = {by}"
        )

    async def at(stretch: float) -> tuple[float, float]:
        frame = crystal.topology.frame(crystal.positions * stretch, crystal.cell * stretch)
        if constants is not None:
            frame = await relaxed_inside(ask, frame, constants)
        energy = (await ask(frame)).energy
        return frame.volume / len(frame), energy / len(frame)

    stretches = np.cbrt(np.linspace(1.0 - by, 1.0 + by, points))
    found = np.array(await together(at(float(stretch)) for stretch in stretches))
    return EnergyCurve(found[:, 0], found[:, 1])
