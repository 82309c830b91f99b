"""Melting check: is a trajectory still that of a hot crystal?

Checks positions and forces step by step. An error states when and how the crystal failed, and what
to do.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mixserver.core.arrays import Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.geometry import shortest_distance

CLOSEST: Final = 0.6
"""Of the nearest-neighbour distance: atoms closer than this collide."""
LARGEST: Final = 50.0
"""eV/Å, far above every force in a hot crystal."""
MELTED: Final = 0.22
"""Root mean square displacement, in nearest-neighbour distances. Crystals melt at about 0.1 to 0.18
(Lindemann's rule)."""
AWAY: Final = 0.5
"""An atom displaced by more than this, in nearest-neighbour distances, has left its site."""
MOST_AWAY: Final = 0.05
"""Fraction of atoms that may have left their sites."""
OFF: Final = 0.3
"""Relative error allowed of the mean temperature; small systems get 3 standard deviations."""


class CrystalMonitor:
    """Checks one trajectory that starts from a perfect crystal, at constant cell."""

    def __init__(self, sites: Frame, temperature: float, timestep_fs: float) -> None:
        self._sites, self._temperature, self._timestep_fs = sites, temperature, timestep_fs
        self._spacing = nearest_distance(sites)

    def check(self, frame: Frame, forces: Vectors, time_ps: float) -> None:
        """Check a frame with i-PI's positions, unwrapped, and its forces (N, 3) eV/Å.

        Raises:
            ConfigError: this is no longer a hot crystal.
        """
        wrong = self._torn(forces) or self._melted(frame) or self._collapsed(frame)
        if wrong:
            raise ConfigError(
                f"the trajectory at {self._temperature:g} K failed after {time_ps:.3g} ps: "
                f"{wrong}. Either the expensive model is not stable at this temperature or the "
                "time step is too long: lower soft.temperatures or soft.timestep_fs (now "
                f"{self._timestep_fs:g} fs), or use a better model"
            )

    def _torn(self, forces: Vectors) -> str:
        largest = np.linalg.norm(forces, axis=1)
        atom = int(np.argmax(largest))
        if largest[atom] <= LARGEST:
            return ""
        return f"the force on atom {atom} is {largest[atom]:.0f} eV/Å, above {LARGEST:g} eV/Å"

    def _melted(self, frame: Frame) -> str:
        moved = frame.positions - self._sites.positions
        moved -= moved.mean(axis=0)
        distance = np.linalg.norm(moved, axis=1) / self._spacing
        rms = float(np.sqrt(np.mean(distance**2)))
        away = float(np.mean(distance > AWAY))
        if rms <= MELTED and away <= MOST_AWAY:
            return ""
        return (
            f"the crystal melts: its atoms are {rms:.2f} nearest-neighbour distances (rms) from "
            f"their sites, above {MELTED:g}, and {100 * away:.0f} % of them have left their sites"
        )

    def _collapsed(self, frame: Frame) -> str:
        apart = shortest_distance(frame, CLOSEST * self._spacing)
        if not np.isfinite(apart):
            return ""
        return (
            f"two atoms are {apart:.2f} Å apart, less than {CLOSEST:g} of the nearest-"
            f"neighbour distance of {self._spacing:.2f} Å"
        )


def check_temperature(measured: float, temperature: float, atoms: int) -> None:
    """Compare the measured mean temperature (K) of the snapshots with that of the thermostat.

    Raises:
        ConfigError: they differ too much.
    """
    bound = max(OFF, 3.0 * np.sqrt(2.0 / (3.0 * atoms)))
    if abs(measured / temperature - 1.0) > bound:
        raise ConfigError(
            f"the snapshots at {temperature:g} K have a mean temperature of {measured:.0f} K, off "
            f"by more than {100 * bound:.0f} %: the crystal is not in equilibrium. Raise "
            "soft.equilibration_ps, lower soft.timestep_fs, or use a better model"
        )


def nearest_distance(frame: Frame) -> float:
    """The distance (Å) between the two closest atoms of a bulk crystal, images included.

    Raises:
        ConfigError: they are too far apart for a bulk crystal, as in a sheet or a rod.
    """
    found = shortest_distance(frame)
    reach = 2.0 * float(frame.volume / len(frame)) ** (1.0 / 3.0)
    if found >= reach:
        raise ConfigError(
            f"no two atoms are within {reach:.2f} Å of each other, twice the cube root of the "
            "volume per atom; a bulk crystal has closer neighbours"
        )
    return found
