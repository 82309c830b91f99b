r"""One exact step of Langevin friction and noise, with a friction of its own for every atom.

.. math::
    p \leftarrow c\,p + \sqrt{m k T (1 - c^2)}\,\xi, \quad
    c_i = \exp[-(1 - \lambda_i)\,\Delta t / \tau]

Whatever the friction, p keeps its Maxwell distribution at T: friction and noise belong together
atom by atom. (Scaling both by 1 - lambda would cool the blend to (1 - lambda) T.) Knows no i-PI;
any consistent units will do.

Mapping: :math:`c` keep, :math:`\sqrt{1 - c^2}` noise, :math:`\xi` random,
:math:`\sqrt m` root_mass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixserver.core.arrays import Indices, Scalars


@dataclass(frozen=True, slots=True, eq=False)
class Friction:
    """The coefficients of one step for every component of the momenta."""

    keep: Scalars
    """(3N,) what friction leaves of a momentum."""
    noise: Scalars
    """(3N,) how much noise makes up for it."""
    still: Indices
    """(M,) components without friction."""


def friction(lambdas: Scalars, steps: float) -> Friction:
    """Coefficients for a step under the friction (1 - lambda)/tau.

    Args:
        lambdas: (N,) expensive fractions.
        steps: length of the step over tau.
    """
    keep = np.repeat(np.exp(-steps * (1.0 - lambdas)), 3)
    return Friction(keep, np.sqrt(1.0 - keep * keep), np.flatnonzero(keep == 1.0))


def kick(
    momenta: Scalars, root_mass: Scalars, friction: Friction, kT: float, random: Scalars
) -> tuple[Scalars, float]:
    """Take the step; momenta without friction come back bit for bit.

    Args:
        momenta: (3N,) momenta; not changed.
        root_mass: (3N,) square roots of the masses.
        friction: coefficients of this step.
        kT: target temperature as an energy.
        random: (3N,) normal deviates. They are drawn for components without friction too, so that
            a random number belongs to the same atom whatever the region.

    Returns:
        (3N,) new momenta, and the kinetic energy that went to the bath.
    """
    before = momenta / root_mass
    after = before * friction.keep
    after += np.sqrt(kT) * friction.noise * random
    after[friction.still] = before[friction.still]
    moved = after * root_mass
    moved[friction.still] = momenta[friction.still]
    return moved, 0.5 * float(before @ before - after @ after)
