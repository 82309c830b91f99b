"""Is a trajectory still that of a hot crystal? Told one evaluation after the other.

Knows positions and forces, neither i-PI nor files. What it refuses it explains: when it broke, how,
and what to do.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from mixserver.arrays import Vectors
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.geometry import heights

CLOSEST: Final = 0.6
"""Of the nearest neighbours' distance: atoms closer than this are falling into each other."""
LARGEST: Final = 50.0
"""eV/Å. No force in a hot crystal comes near it."""
MELTED: Final = 0.22
"""Root mean square distance from the sites, in nearest neighbours' distances. Crystals melt at
about 0.1 to 0.18 (Lindemann's rule)."""
AWAY: Final = 0.5
"""An atom farther from its site than this, in nearest neighbours' distances, has left it."""
MOST_AWAY: Final = 0.05
"""Fraction of atoms that may have left their sites."""
OFF: Final = 0.3
"""How far the mean temperature may be off, relative; small systems get 3 standard deviations."""


class Watch:
    """Watches one trajectory at constant cell.

    Args:
        sites: the perfect crystal from whose sites the trajectory starts.
        temperature: K, for messages.
        timestep_fs: for messages.
    """

    def __init__(self, sites: Frame, temperature: float, timestep_fs: float) -> None:
        self._sites = sites
        self._temperature = temperature
        self._timestep_fs = timestep_fs
        self._spacing = nearest_distance(sites)

    def look(self, frame: Frame, forces: Vectors, time_ps: float) -> None:
        """Look at one evaluation.

        Args:
            frame: positions as i-PI has them, unwrapped.
            forces: (N, 3) eV/Å.
            time_ps: since the start of the trajectory.

        Raises:
            ConfigError: this is no hot crystal any more.
        """
        wrong = self._torn(forces) or self._melted(frame) or self._collapsed(frame)
        if wrong:
            raise ConfigError(
                f"the trajectory at {self._temperature:g} K broke after {time_ps:.3g} ps: {wrong}. "
                "Either the expensive model is not stable at this temperature or the time step is "
                f"too long: lower soft.temperatures or soft.timestep_fs (now {self._timestep_fs:g} "
                "fs), or take a better model"
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
            f"the crystal melts: its atoms are {rms:.2f} nearest neighbours' distances (rms) from "
            f"their sites, where {MELTED:g} is the most, and {100 * away:.0f} % of them have left "
            "theirs"
        )

    def _collapsed(self, frame: Frame) -> str:
        apart = closest(frame, CLOSEST * self._spacing)
        if apart is None:
            return ""
        return (
            f"two atoms are {apart:.2f} Å apart, less than {CLOSEST:g} of the nearest "
            f"neighbours' distance of {self._spacing:.2f} Å"
        )


def check_temperature(measured: float, temperature: float, atoms: int) -> None:
    """Compare the mean temperature of the snapshots' stretch with what was asked for.

    Args:
        measured: K, mean.
        temperature: K, asked for.
        atoms: how many; few atoms fluctuate much.

    Raises:
        ConfigError: too far off.
    """
    bound = max(OFF, 3.0 * np.sqrt(2.0 / (3.0 * atoms)))
    if abs(measured / temperature - 1.0) > bound:
        raise ConfigError(
            f"the snapshots at {temperature:g} K have a mean temperature of {measured:.0f} K, off "
            f"by more than {100 * bound:.0f} %: the crystal is not in equilibrium. Raise "
            "soft.equilibration_ps, lower soft.timestep_fs, or take a better model"
        )


def nearest_distance(frame: Frame) -> float:
    """Å between the two closest atoms of a periodic frame, images included."""
    reach = 2.0 * float(frame.volume / len(frame)) ** (1.0 / 3.0)
    found = closest(frame, reach)
    if found is None:  # a sheet or a rod in a large cell
        raise ConfigError(
            f"no two atoms are within {reach:.2f} Å of each other, twice the cube root of the "
            "volume per atom; a bulk crystal has neighbours nearer than that"
        )
    return found


def closest(frame: Frame, reach: float) -> float | None:
    """Å between the closest two atoms or images, if nearer than `reach`."""
    turns = [range(-n, n + 1) for n in np.ceil(reach * _per_height(frame)).astype(int).tolist()]
    images = np.array(list(itertools.product(*turns)), dtype=np.float64) @ frame.cell
    atoms = frame.wrapped
    everything = (atoms[:, None] + images).reshape(-1, 3)
    # the nearest is the atom itself
    distance, _ = cKDTree(everything).query(atoms, k=2, distance_upper_bound=reach)
    least = float(distance[:, 1].min())
    return least if np.isfinite(least) else None


def _per_height(frame: Frame) -> Vectors:
    """(3,) 1/Å, one over the distance between opposite faces of the cell."""
    per: Vectors = 1.0 / heights(frame.inverse)
    return per
