"""One point of a front: two things cannot both be least, and a weight decides between them.

Two criteria. `affordable` takes what a stated price buys, so a person can say what is wanted; it
is the default. `knee` takes the point farthest from the chord between the ends, on logarithmic
axes, where one more factor of the one begins to cost more than a factor of the other. Knows
neither fits nor what the measures are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Mask
from mixserver.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Point:
    """What came of one weight."""

    weight: float
    measures: Mapping[str, float]
    """By name; less is better."""


def dominated(points: Sequence[Point], *names: str) -> Mask:
    """Which points no one should want: another is as good in all measures and better in one.

    A point with a measure that is not finite is dominated by everybody.

    Args:
        points: n of them.
        names: of the measures that count.

    Returns:
        (n,) True for those.
    """
    values = _values(points, names)
    good: Mask = np.isfinite(values.sum(axis=1))
    as_good = np.all(values[:, None] <= values[None], axis=2)
    better = np.any(values[:, None] < values[None], axis=2)
    beaten: Mask = np.logical_or(~good, np.any(as_good & better & good[:, None], axis=0))
    return beaten


def affordable(points: Sequence[Point], *, least: str, of: str, price: float) -> int:
    """The point with least of one measure for a price in another.

    Args:
        points: any order.
        least: measure that is to be small.
        of: measure that may grow.
        price: up to (1 + price) times its least value.

    Returns:
        Index of the point; of equal ones that with the smaller `of`, then the smaller weight.

    Raises:
        ConfigError: no point has finite measures.
        ValueError: the price is negative.
    """
    if not price >= 0.0:
        raise ValueError(f"a price must be 0 or more, got {price}")
    gained, paid = _values(points, (least, of)).T
    good = _finite(points, (least, of))
    most = (1.0 + price) * min(paid[at] for at in good)
    return min(
        (at for at in good if paid[at] <= most),
        key=lambda at: (gained[at], paid[at], points[at].weight),
    )


def knee(points: Sequence[Point], x: str, y: str) -> int:
    """The point of the front that is farthest below the chord of its ends, in log x and log y.

    A front of two points, or one that bulges outwards, has no knee: then it is the end with the
    smaller product of both.

    Args:
        points: any order; dominated ones do not count.
        x: a measure, above 0.
        y: another.

    Returns:
        Index of the point.

    Raises:
        ConfigError: no point has finite measures above 0.
    """
    values = _values(points, (x, y))
    front = [at for at in _finite(points, (x, y)) if values[at].min() > 0.0]
    if not front:
        raise ConfigError(f"no weight gave {x} and {y} above 0: there is no front to choose from")
    beaten = dominated([points[at] for at in front], x, y)
    front = [at for at, worse in zip(front, beaten, strict=True) if not worse]
    log = np.log(values[front])
    first, last = log[log[:, 0].argmin()], log[log[:, 0].argmax()]
    across = last - first
    span = float(np.hypot(across[0], across[1]))
    # the front falls, so below the chord is to its left
    below = across[1] * (log[:, 0] - first[0]) - across[0] * (log[:, 1] - first[1])
    if span == 0.0 or below.max() <= 1e-9 * span**2:
        return front[int(log.sum(axis=1).argmin())]
    return front[int(below.argmax())]


def _values(points: Sequence[Point], names: Sequence[str]) -> NDArray[np.float64]:
    """(n, names)."""
    return np.array([[point.measures[name] for name in names] for point in points]).reshape(
        len(points), len(names)
    )


def _finite(points: Sequence[Point], names: Sequence[str]) -> list[int]:
    good = np.flatnonzero(np.isfinite(_values(points, names)).all(axis=1))
    if not len(good):
        raise ConfigError(
            f"none of {len(points)} weights gave finite {' and '.join(names)}: there is no front "
            "to choose from. Is the validation set empty (fit.validation)?"
        )
    return [int(at) for at in good]
