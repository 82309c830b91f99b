r"""A region that follows its seeds smoothly, so that energies mixed with it have a gradient.

.. math::
    \lambda_i = 1 - \prod_s \bigl(1 - b\bigl((d_{is} - r_\mathrm{core}) / w\bigr)\bigr)

over all seeds s and all their periodic images; b is the profile, 1 below 0 and 0 beyond 1. There is
no memory: lambda is one function of positions and cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mixserver.core.arrays import Indices, Scalars
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.geometry import ShellPairs, shell_pairs
from mixserver.region.profiles import Profile, named
from mixserver.region.protocol import StatelessRegion
from mixserver.region.region import GradLambdaForces, Region
from mixserver.region.seeds import AtomSeeds, CriterionSeeds, Seeds


class SmoothRegion(StatelessRegion):
    """Lambda is a smooth function of the distances to seed atoms.

    An atom with one seed in reach has the lambda that `ShellRegion` gives it. With several, lambda
    is more than the nearest one alone would give, and smooth where another becomes the nearest.

    Args:
        seeds: atoms, by index or by element.
        core_radius: Å, 0 or more.
        blend_width: Å, more than 0.
        profile: "quintic" (lambda has two continuous derivatives), or "cubic" (one: forces are
            continuous, their derivatives jump).

    Raises:
        ConfigError: the seeds are not atoms, or not constant; a width or profile with which forces
            are not continuous.
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
            selected = isinstance(seeds, CriterionSeeds)
            what = "selected by a criterion" if selected else "bodies fixed in space"
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

    def divide(self, frame: Frame) -> Region:
        """Divide a frame.

        Raises:
            ConfigError: a seed is not among the atoms.
        """
        seeds = self._seeds.atoms(frame)
        near = shell_pairs(frame, seeds, self._core_radius, self._core_radius + self._blend_width)
        depth = near.distance - self._core_radius
        depth /= self._blend_width
        lambda_ = np.zeros(len(frame))
        lambda_[near.inside] = 1.0
        if len(near.source) == len(near.atoms):
            missing = np.ones(len(depth))
            lambda_[near.atoms] = self._profile.value(depth)
        else:
            # all profiles are odd about their middle; near the core this keeps 1 - b precise
            factor = self._profile.value(1.0 - depth)
            product = np.multiply.reduceat(factor, near.first)
            lambda_[near.atoms] = 1.0 - product
            # Where a factor is 0 the atom is core to the last bit, and flat there.
            whole = product.repeat(near.counts)
            missing = np.divide(whole, factor, out=np.zeros_like(factor), where=factor > 0.0)
        gradient = _ShellGradient(near, depth, missing, self._profile, self._blend_width, lambda_)
        return Region(lambda_, seeds, gradient=gradient)


@dataclass(slots=True)
class _ShellGradient:
    """The gradient of lambda at one frame."""

    near: ShellPairs
    """Blend atoms and their pairs with seeds."""
    depth: Scalars
    """(p,) how deep in the blend each pair is, 0 to 1."""
    missing: Scalars
    """(p,) the product of 1 - b over all other pairs of the atom."""
    profile: Profile
    """b."""
    width: float
    """Å of the blend."""
    lambda_: Scalars
    """(N,)"""

    def forces(self, difference: Scalars) -> GradLambdaForces:
        """Minus the gradient of the sum of difference times lambda.

        Raises:
            ValueError: not one difference for each atom with lambda > 0.
        """
        near = self.near
        active = np.flatnonzero(self.lambda_)
        if difference.shape != active.shape:
            raise ValueError(
                f"{len(active)} atoms are active, but the differences are {difference.shape}"
            )
        dense = np.zeros(len(self.lambda_))  # lambda may be 0 to the last bit in the shell
        dense[active] = difference
        counts = near.counts
        size = dense.take(near.atoms.repeat(counts))
        size *= self.profile.slope(self.depth)
        size *= self.missing
        size /= near.distance * -self.width
        pair_force = near.vector * size[:, None]
        seeds, seed_row = np.unique(near.source, return_inverse=True)
        virial = near.vector.T @ pair_force
        on_atoms = pair_force
        if len(pair_force):
            on_atoms = np.add.reduceat(pair_force, near.first, axis=0)
        on_seeds = np.empty((len(seeds), 3))
        for axis in range(3):
            on_seeds[:, axis] = np.bincount(seed_row, -pair_force[:, axis], minlength=len(seeds))
        atoms: Indices = np.concatenate((near.atoms, seeds))  # seeds are core, so none is twice
        order = atoms.argsort()
        forces = np.concatenate((on_atoms, on_seeds))
        return GradLambdaForces(atoms[order], forces[order], 0.5 * (virial + virial.T))
