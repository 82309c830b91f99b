"""Minimisation by L-BFGS with asynchronous evaluations and a limit on the step length.

The method is that of D. C. Liu and J. Nocedal, Math. Program. 45, 503 (1989). Every step is a sum
of gradients, so the end point has all symmetries that the gradients have. Knows no atoms.

ASE's optimisers were tried in its place. For unit cells ASE's LBFGS and BFGS need about as many
evaluations (Ar, SiC, Si with cell: 6 to 15, here 5 to 22). In supercells they need more: for a
vacancy in 108 atoms of Al 29, with the best setting 16, here 10; for 27 displaced atoms of Si 14 to
16, here 7 to 8. Where the start is not stable (27 atoms of simple cubic Ar), LBFGS did not converge
in 300 evaluations and BFGS took 290; here 107. They have no
criterion for a gradient that is only noise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError

_MEMORY: Final = 30
"""Pairs of steps and changes of the gradient that are kept."""
_ENERGY_NOISE: Final = 1e-7
"""Relative error of an energy in single precision."""
_PATIENCE: Final = 6
"""Evaluations without a clearly smaller gradient, after which the gradient counts as noise."""
_CLEARLY: Final = 0.7

Evaluate: TypeAlias = "Callable[[Scalars], Awaitable[Point]]"
InverseHessian: TypeAlias = Callable[[Scalars], Scalars]
"""Approximate inverse second derivatives (Å²/eV), times a vector."""


@dataclass(frozen=True, eq=False)
class Point:
    """An energy and its gradient."""

    energy: float
    """eV."""
    gradient: Scalars
    """(d,) eV/Å."""
    excess: float
    """The gradient divided by its tolerance, as the caller measures it; converged at 1."""


async def minimised(
    what: str,
    at: Evaluate,
    start: Scalars,
    *,
    inverse: InverseHessian,
    longest: float,
    noise: float,
    steps: int,
) -> Scalars:
    """The minimum (d,) Å that is reached from the start (d,) Å, of what messages call `what`.

    `inverse` is the inverse Hessian to begin with, `longest` (Å) the largest component of a step. A
    model in single precision may never reach the tolerance: the search ends too when the gradient
    no longer falls, if its excess is below `noise`.

    Raises:
        ConfigError: not converged within `steps` evaluations.
    """
    known: deque[tuple[Scalars, Scalars]] = deque(maxlen=_MEMORY)
    x, here, reach = start, await at(start), longest
    best, best_at, level, since, evaluations = here, start, here.excess, 0, 1
    while best.excess > 1.0 and not (since >= _PATIENCE and best.excess <= noise):
        if evaluations >= steps:
            raise ConfigError(
                f"{what} does not come to rest within {steps} evaluations: forces or stresses are "
                f"still {best.excess:.3g} times their tolerance. Begin nearer to equilibrium, and "
                "make sure that the model describes this crystal"
            )
        step = _step(here.gradient, known, inverse)
        step *= min(1.0, reach / float(np.abs(step).max()))
        there = await at(x + step)
        evaluations += 1
        change = there.gradient - here.gradient
        if float(step @ change) > 0.0:
            known.append((step, change))
        since += 1
        if there.excess < best.excess:
            best, best_at = there, x + step
        if there.excess < _CLEARLY * level:
            level, since = there.excess, 0
        steeper = np.linalg.norm(there.gradient) > np.linalg.norm(here.gradient)
        if steeper and there.energy - here.energy > _ENERGY_NOISE * abs(here.energy):
            reach = 0.5 * float(np.abs(step).max())
            continue
        x, here, reach = x + step, there, min(longest, 2.0 * reach)
    return best_at


def _step(
    gradient: Scalars, known: deque[tuple[Scalars, Scalars]], inverse: InverseHessian
) -> Scalars:
    """The quasi-Newton step of the two-loop recursion; always downhill."""
    reduced = gradient.copy()
    weights = []
    for step, change in reversed(known):
        weight = float(step @ reduced) / float(step @ change)
        reduced -= weight * change
        weights.append(weight)
    moved = inverse(reduced)
    if known:
        step, change = known[-1]
        moved = moved * (float(step @ change) / float(change @ inverse(change)))
    for (step, change), weight in zip(known, reversed(weights), strict=True):
        moved = moved + (weight - float(change @ moved) / float(step @ change)) * step
    if float(moved @ gradient) <= 0.0:  # rounding
        known.clear()
        moved = inverse(gradient)
    return -moved
