r"""From seeds to lambda by distance: core and blend, without memory.

An atom is core (lambda = 1) if it is a seed or nearer than `core_radius` to one, or to the surface
of a body, or inside it. Across the blend lambda = b(t), where b is the profile and

* measured from the seed: :math:`t = (r - r_\mathrm{core}) / w` with r to the nearest seed,
* measured from the core: :math:`t = r' / w` with r' to the nearest core atom, as in ML-MIX.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from mixserver.core.arrays import Scalars, mask_of
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.geometry import DistanceResult, distances_to_atoms
from mixserver.region.profiles import named
from mixserver.region.seeds import Seeds


class Shells:
    """Core and blend around seeds.

    Args:
        core_radius: Å.
        blend_width: Å; 0 for none.
        profile: "linear", "cubic" or "quintic".
        measure_from: see above.

    Raises:
        ConfigError: a width is negative, or there is no such profile.
    """

    def __init__(
        self,
        core_radius: float,
        blend_width: float,
        *,
        profile: str = "quintic",
        measure_from: Literal["seed", "core"] = "seed",
    ) -> None:
        for name, width in (("core_radius", core_radius), ("blend_width", blend_width)):
            if not (math.isfinite(width) and width >= 0.0):
                raise ConfigError(f"region.{name} must be 0 Å or more, got {width}")
        if measure_from not in ("seed", "core"):
            raise ConfigError(f'region.measure_from is "seed" or "core", not {measure_from!r}')
        self._core_radius = core_radius
        self._blend_width = blend_width
        self._profile = named(profile)
        self._from_core = measure_from == "core"

    def lambda_(self, frame: Frame, seeds: Seeds) -> Scalars:
        """(N,) lambda of each atom.

        Raises:
            ConfigError: a seed is not among the atoms.
        """
        near, values = self._near(frame, seeds)
        dense = np.zeros(len(frame))
        dense[near.atoms] = values
        return dense

    def _near(self, frame: Frame, seeds: Seeds) -> tuple[DistanceResult, Scalars]:
        """Atoms near the seeds, and their lambda (0 for some of them)."""
        radius, width = self._core_radius, self._blend_width
        atoms = seeds.atoms(frame)
        near = seeds.near(frame, radius + (0.0 if self._from_core else width))
        if self._from_core or not width:
            core = near.distance < radius
            if len(atoms):
                core |= mask_of(atoms, len(frame)).take(near.atoms)
            else:  # inside a body
                core |= near.distance == 0.0
            if not width:
                return near, core.astype(np.float64)
            atoms, radius = near.atoms[core], 0.0
            near = distances_to_atoms(frame, atoms, width)
        # nearer than the radius is 1 and beyond the width is 0, as exactly as b(0) and b(1) are
        depth = near.distance - radius
        depth /= width
        np.maximum(depth, 0.0, out=depth)
        np.minimum(depth, 1.0, out=depth)
        values = self._profile.value(depth)
        if not radius and len(atoms):  # rounding of an atom's distance to itself
            values[mask_of(atoms, len(frame)).take(near.atoms)] = 1.0
        return near, values
