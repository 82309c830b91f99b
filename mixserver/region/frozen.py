"""A region by atom index: lambda is chosen once and stays with the atoms wherever they go."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixserver.arrays import Indices, Scalars
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.region.region import Region
from mixserver.region.selecting import Memoryless, Selecting


class Frozen(Memoryless):
    """Selects the same atoms always, in all beads.

    Args:
        expensive: (N,) lambda of each atom, in [0, 1].
        seeds: (s,) atoms that are seeds, ascending; empty where a body fixed in space was one.

    Raises:
        ConfigError: a lambda is out of bounds, or a seed is not among the atoms.
    """

    def __init__(self, expensive: Scalars, seeds: Indices) -> None:
        self._region = _region(np.array(expensive, dtype=np.float64), np.array(seeds, np.intp))

    @classmethod
    def at(cls, selector: Selecting, frame: Frame) -> Frozen:
        """Freeze what a selector chooses at a frame, which counts there as an evaluation.

        Raises:
            ConfigError: a seed is not among the atoms.
        """
        region = selector.select(frame)
        return cls(region.expensive, region.seeds)

    def select(self, frame: Frame) -> Region:
        """The region, for any positions of its atoms.

        Raises:
            ConfigError: the frame has another number of atoms.
        """
        count = len(self._region.expensive)
        if len(frame) != count:
            raise ConfigError(f"lambda is frozen for {count} atoms, but there are {len(frame)}")
        return self._region

    def state(self) -> dict[str, Any]:
        """Lambda by atom index, so that a restart from other positions keeps it."""
        region = self._region
        return {
            "atoms": len(region.expensive),
            "active": region.active.tolist(),
            "expensive": region.expensive[region.active].tolist(),
            "seeds": region.seeds.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave, instead of what was frozen here.

        Raises:
            ConfigError: it is something else, or of other atoms.
        """
        try:
            count = int(state["atoms"])
            active = np.array(state["active"], dtype=np.intp)
            shares = np.array(state["expensive"], dtype=np.float64)
            seeds = np.array(state["seeds"], dtype=np.intp)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this is no state of a frozen region: {error!r}") from error
        present = len(self._region.expensive)
        if count != present:
            raise ConfigError(f"it is of {count} atoms, but there are {present}")
        if active.ndim != 1 or active.shape != shares.shape:
            raise ConfigError(f"{active.size} atoms are active, but {shares.size} have a lambda")
        _inside(active, count, "an active atom")
        expensive = np.zeros(count)
        expensive[active] = shares
        self._region = _region(expensive, seeds)


def _region(expensive: Scalars, seeds: Indices) -> Region:
    """A region that nobody can change.

    Raises:
        ConfigError: it makes no sense.
    """
    _inside(seeds, len(expensive), "a seed")
    try:
        region = Region(expensive, seeds)
    except ValueError as error:
        raise ConfigError(f"a frozen lambda makes no sense: {error}") from error
    region.expensive.flags.writeable = False
    region.seeds.flags.writeable = False
    return region


def _inside(atoms: Indices, count: int, what: str) -> None:
    if atoms.ndim != 1 or (atoms.size and not 0 <= atoms.min() <= atoms.max() < count):
        raise ConfigError(f"{what} is not among the {count} atoms there are")
