"""A fixed region: lambda is set once and stays with the atoms wherever they go."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixserver.core.arrays import Indices, Scalars
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.region.protocol import RegionModel, StatelessRegion
from mixserver.region.region import Region


class FixedRegion(StatelessRegion):
    """The same lambda at all times, in all beads.

    Args:
        lambda_: (N,) lambda of each atom, in [0, 1].
        seeds: (s,) atoms that are seeds, ascending; empty where a body fixed in space was one.

    Raises:
        ConfigError: a lambda is out of bounds, or a seed is not among the atoms.
    """

    def __init__(self, lambda_: Scalars, seeds: Indices) -> None:
        self._region = _region(np.array(lambda_, dtype=np.float64), np.array(seeds, np.intp))

    @classmethod
    def at(cls, region_model: RegionModel, frame: Frame) -> FixedRegion:
        """Fix the lambda that a model without history gives to a frame.

        Raises:
            ConfigError: a seed is not among the atoms.
        """
        region = region_model.evaluation(frame).region()
        return cls(region.lambda_, region.seeds)

    def divide(self, frame: Frame) -> Region:
        """The region, for any positions of its atoms.

        Raises:
            ConfigError: the frame has another number of atoms.
        """
        count = len(self._region.lambda_)
        if len(frame) != count:
            raise ConfigError(f"lambda is fixed for {count} atoms, but there are {len(frame)}")
        return self._region

    def state(self) -> dict[str, Any]:
        """Lambda by atom index, so that a restart from other positions keeps it."""
        region = self._region
        return {
            "atoms": len(region.lambda_),
            "active": region.active.tolist(),
            "expensive": region.lambda_[region.active].tolist(),
            "seeds": region.seeds.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace lambda by what `state` returned.

        Raises:
            ConfigError: it is something else, or of other atoms.
        """
        try:
            count = int(state["atoms"])
            active = np.array(state["active"], dtype=np.intp)
            values = np.array(state["expensive"], dtype=np.float64)
            seeds = np.array(state["seeds"], dtype=np.intp)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this is not the state of a fixed region: {error!r}") from error
        present = len(self._region.lambda_)
        if count != present:
            raise ConfigError(f"it is of {count} atoms, but there are {present}")
        if active.ndim != 1 or active.shape != values.shape:
            raise ConfigError(f"{active.size} atoms are active, but {values.size} have a lambda")
        _inside(active, count, "an active atom")
        lambda_ = np.zeros(count)
        lambda_[active] = values
        self._region = _region(lambda_, seeds)


def _region(lambda_: Scalars, seeds: Indices) -> Region:
    """A region whose arrays are read-only.

    Raises:
        ConfigError: a lambda or a seed is out of bounds.
    """
    _inside(seeds, len(lambda_), "a seed")
    try:
        region = Region(lambda_, seeds)
    except ValueError as error:
        raise ConfigError(f"a fixed lambda makes no sense: {error}") from error
    region.lambda_.flags.writeable = False
    region.seeds.flags.writeable = False
    return region


def _inside(atoms: Indices, count: int, what: str) -> None:
    if atoms.ndim != 1 or (atoms.size and not 0 <= atoms.min() <= atoms.max() < count):
        raise ConfigError(f"{what} is not among the {count} atoms there are")
