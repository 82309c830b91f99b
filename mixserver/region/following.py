r"""A region that follows its seeds smoothly, so that energies mixed with it have a gradient.

.. math::
    \lambda_i = 1 - \prod_s \bigl(1 - b\bigl((d_{is} - r_\mathrm{core}) / w\bigr)\bigr)

over all seeds s and all their periodic images; b is the profile, 1 below 0 and 0 beyond 1. There is
no memory: lambda is one function of positions and cell.
"""

from __future__ import annotations

import math

import numpy as np

from mixserver.arrays import Indices, Scalars
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.geometry import Shell, shell
from mixserver.region.profiles import Profile, named
from mixserver.region.region import Pulled, Region
from mixserver.region.seeds import AtomSeeds, CriterionSeeds, Seeds
from mixserver.region.selecting import Memoryless


class Following(Memoryless):
    """Selects by a smooth function of the distances to seed atoms.

    An atom with one seed in reach has the lambda that `Selector` gives it. With several, lambda is
    more than the nearest one alone would give, and smooth where another becomes the nearest.

    Args:
        seeds: atoms, by index or by element.
        core_radius: Å, 0 or more.
        blend_width: Å, more than 0.
        profile: "quintic" (lambda has two continuous derivatives), or "cubic" (one: forces are
            continuous, their derivatives jump).

    Raises:
        ConfigError: seeds that are no atoms, or no constant ones; a width or profile that makes
            no continuous forces.
    """

    def __init__(
        self,
        seeds: Seeds | CriterionSeeds,
        *,
        core_radius: float,
        blend_width: float,
        profile: str = "quintic",
    ) -> None:
        if not isinstance(seeds, AtomSeeds):
            chosen = isinstance(seeds, CriterionSeeds)
            what = "chosen by a criterion" if chosen else "bodies fixed in space"
            raise ConfigError(
                "region.follow = true needs seeds that are atoms (by index or element), and these "
                f"are {what}: lambda would have no gradient that keeps the energy and the momentum."
                " Set region.follow = false"
            )
        if not (math.isfinite(core_radius) and core_radius >= 0.0):
            raise ConfigError(f"region.core_radius must be 0 Å or more, got {core_radius}")
        if not (math.isfinite(blend_width) and blend_width > 0.0):
            raise ConfigError(
                "region.follow = true needs a region.blend_width of more than 0 Å, over which "
                f"lambda falls, got {blend_width}; or set region.follow = false"
            )
        self._profile = named(profile)
        if profile == "linear":
            raise ConfigError(
                'region.profile = "linear" has kinks, so forces would jump where atoms enter and '
                'leave the blend: take "quintic", or set region.follow = false'
            )
        self._seeds = seeds
        self._core_radius = core_radius
        self._blend_width = blend_width

    def select(self, frame: Frame) -> Region:
        """Divide a frame.

        Raises:
            ConfigError: a seed is not among the atoms.
        """
        seeds = self._seeds.atoms(frame)
        near = shell(frame, seeds, self._core_radius, self._core_radius + self._blend_width)
        depth = near.distance - self._core_radius
        depth /= self._blend_width
        expensive = np.zeros(len(frame))
        expensive[near.inside] = 1.0
        if len(near.source) == len(near.atoms):
            missing = np.ones(len(depth))
            expensive[near.atoms] = self._profile.value(depth)
        else:
            # all profiles are odd about their middle; near the core this keeps 1 - b precise
            factor = self._profile.value(1.0 - depth)
            product = np.multiply.reduceat(factor, near.first)
            expensive[near.atoms] = 1.0 - product
            # Where a factor is 0 the atom is core to the last bit, and flat there.
            whole = product.repeat(near.counts)
            missing = np.divide(whole, factor, out=np.zeros_like(factor), where=factor > 0.0)
        pull = _Following(near, depth, missing, self._profile, self._blend_width, expensive)
        return Region(expensive, seeds, pull=pull)


class _Following:
    """The pull-back of one frame.

    Args:
        near: blend atoms and their pairs with seeds.
        depth: (p,) how deep in the blend each pair is, 0 to 1.
        missing: (p,) the product of 1 - b over all other pairs of the atom.
        profile: b.
        width: Å of the blend.
        expensive: (N,) lambda.
    """

    def __init__(
        self,
        near: Shell,
        depth: Scalars,
        missing: Scalars,
        profile: Profile,
        width: float,
        expensive: Scalars,
    ) -> None:
        self._near, self._depth, self._missing = near, depth, missing
        self._profile, self._width, self._expensive = profile, width, expensive

    def back(self, gap: Scalars) -> Pulled:
        """Minus the gradient of the sum of gap times lambda; see `Pull.back`.

        Raises:
            ValueError: not one gap for each atom with lambda > 0.
        """
        near = self._near
        active = np.flatnonzero(self._expensive)
        if gap.shape != active.shape:
            raise ValueError(f"{len(active)} atoms are active, but gaps are {gap.shape}")
        dense = np.zeros(len(self._expensive))  # lambda may be 0 to the last bit in the shell
        dense[active] = gap
        counts = near.counts
        size = dense.take(near.atoms.repeat(counts))
        size *= self._profile.slope(self._depth)
        size *= self._missing
        size /= near.distance * -self._width
        pull = near.vector * size[:, None]
        seeds, seed_row = np.unique(near.source, return_inverse=True)
        virial = near.vector.T @ pull
        on_atoms = np.add.reduceat(pull, near.first, axis=0) if len(pull) else pull
        on_seeds = np.empty((len(seeds), 3))
        for axis in range(3):
            on_seeds[:, axis] = np.bincount(seed_row, -pull[:, axis], minlength=len(seeds))
        atoms: Indices = np.concatenate((near.atoms, seeds))  # seeds are core, so none is twice
        order = atoms.argsort()
        forces = np.concatenate((on_atoms, on_seeds))
        return Pulled(atoms[order], forces[order], 0.5 * (virial + virial.T))
