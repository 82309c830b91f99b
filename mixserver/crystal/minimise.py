"""Downhill to where the gradient vanishes, each point evaluated asynchronously.

L-BFGS with a step that never grows too long (D. C. Liu, J. Nocedal, Math. Program. 45, 503, 1989).
Every step is a sum of gradients, so whatever symmetry all gradients have the end point has too, and
a crystal with few free parameters takes few evaluations. Knows no atoms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from mixserver.arrays import Scalars
from mixserver.errors import ConfigError

_REMEMBERED: Final = 30
"""Pairs of steps and changes of the gradient."""
_ENERGY_NOISE: Final = 1e-7
"""Relative error of an energy in single precision."""
_PATIENCE: Final = 6
"""Evaluations without a clearly smaller gradient, after which it is noise."""
_CLEARLY: Final = 0.7

At: TypeAlias = "Callable[[Scalars], Awaitable[Slope]]"
Inverse: TypeAlias = Callable[[Scalars], Scalars]


@dataclass(frozen=True, eq=False)
class Slope:
    """An energy and its gradient at a point."""

    energy: float
    """eV."""
    gradient: Scalars
    """(d,) eV/Å."""
    excess: float
    """How many times the gradient is above what counts as none."""


async def minimised(
    what: str, at: At, start: Scalars, *, inverse: Inverse, longest: float, noise: float, steps: int
) -> Scalars:
    """The point at rest that is found downhill from the start.

    Where a model in single precision never comes below the tolerance, it ends when the gradient no
    longer falls, if it is below the noise that is allowed.

    Args:
        what: what is relaxed, for messages.
        at: evaluates a point.
        start: (d,) Å.
        inverse: a guess of the inverse second derivatives (Å²/eV), times a vector.
        longest: Å, of any component of a step.
        noise: times the tolerance that the gradient may be when it no longer falls.
        steps: evaluations after which it gives up.

    Returns:
        (d,) Å.

    Raises:
        ConfigError: it does not come to rest.
    """
    known: deque[tuple[Scalars, Scalars]] = deque(maxlen=_REMEMBERED)
    x, here, reach = start, await at(start), longest
    best, best_at, level, since, asked = here, start, here.excess, 0, 1
    while best.excess > 1.0 and not (since >= _PATIENCE and best.excess <= noise):
        if asked >= steps:
            raise ConfigError(
                f"{what} does not come to rest within {steps} evaluations: forces or stresses are "
                f"still {best.excess:.3g} times what is allowed. Begin nearer to its equilibrium, "
                "and make sure that the model knows this crystal"
            )
        step = _step(here.gradient, known, inverse)
        step *= min(1.0, reach / float(np.abs(step).max()))
        there = await at(x + step)
        asked += 1
        change = there.gradient - here.gradient
        if float(step @ change) > 0.0:
            known.append((step, change))
        since += 1
        if there.excess < best.excess:
            best, best_at = there, x + step
        if there.excess < _CLEARLY * level:
            level, since = there.excess, 0
        if _worse(there, here):
            reach = 0.5 * float(np.abs(step).max())
            continue
        x, here, reach = x + step, there, min(longest, 2.0 * reach)
    return best_at


def _worse(there: Slope, here: Slope) -> bool:
    """Whether a step went too far: uphill, to where it is steeper."""
    rise = there.energy - here.energy
    steeper = np.linalg.norm(there.gradient) > np.linalg.norm(here.gradient)
    return rise > _ENERGY_NOISE * abs(here.energy) and bool(steeper)


def _step(gradient: Scalars, known: deque[tuple[Scalars, Scalars]], inverse: Inverse) -> Scalars:
    """The quasi-Newton step of the two-loop recursion; always downhill."""
    pulled = gradient.copy()
    shares = []
    for step, change in reversed(known):
        share = float(step @ pulled) / float(step @ change)
        pulled -= share * change
        shares.append(share)
    moved = inverse(pulled)
    if known:
        step, change = known[-1]
        moved = moved * (float(step @ change) / float(change @ inverse(change)))
    for (step, change), share in zip(known, reversed(shares), strict=True):
        moved = moved + (share - float(change @ moved) / float(step @ change)) * step
    if float(moved @ gradient) <= 0.0:  # rounding
        known.clear()
        moved = inverse(gradient)
    return -moved
