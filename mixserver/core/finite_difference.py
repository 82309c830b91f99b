"""Derivatives from equally spaced samples, by the central formula of fourth order.

.. math::
    f'(x) \\approx \\frac{f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)}{12 h}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeVar

import numpy as np

from mixserver.core.arrays import Scalars

STENCIL: Final = (-2, -1, 1, 2)
"""Where `central_slope` wants its samples, in steps from the point."""

_Value = TypeVar("_Value", float, Scalars)


def central_slope(samples: Sequence[_Value], step: float) -> _Value:
    """The slope at a point from samples around it.

    Args:
        samples: values at the four points of `STENCIL`, numbers or arrays of one shape.
        step: between neighbouring points.
    """
    far_below, below, above, far_above = samples
    return (far_below - 8.0 * below + 8.0 * above - far_above) / (12.0 * step)


def tabulated_slope(values: Scalars, step: float, *, edge_order: Literal[1, 2] = 2) -> Scalars:
    """(n,) slopes of a table (n,); of order `edge_order` at its ends, 2 at the points beside them.

    Args:
        values: at least 3 values, `step` apart.
        step: between neighbouring points.
        edge_order: of the one-sided formula for the first and the last point.
    """
    slope: Scalars = np.gradient(values, step, edge_order=edge_order)
    if len(values) > 4:
        slope[2:-2] = central_slope((values[:-4], values[1:-3], values[3:-1], values[4:]), step)
    return slope
