"""A fast atom shot at a slab: its time step, and when the shot is over.

Plain functions of places, speeds and times; `mixserver.ipi.host.projectile` applies them inside
i-PI. The slab's surface is perpendicular to z, and the atom comes from above.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, Literal

import msgspec

from mixserver.core.errors import ConfigError

End = Literal["reflected", "stopped", "passed", "undecided"]
ENDS: Final[dict[End, str]] = {
    "reflected": "left the surface again",
    "stopped": "was inside the slab at the end of its time",
    "passed": "came out below",
    "undecided": "was above the surface at the end of its time, neither in nor away",
}
"""How a shot can end."""
SHOT: Final = "shot.json"
"""Settings of a shot, in i-PI's folder."""
ENDED: Final = "ended.json"
"""Its end, in the same folder, written atomically by i-PI's process."""


class Projectile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a shot."""

    atom: int
    """Index of the atom, from 0."""
    top: float
    """z of the surface, Å."""
    bottom: float
    """z of the lowest layer, Å."""
    limit_fs: float = 1000.0
    """Longest time of a shot."""
    longest_fs: float = 0.1
    """Longest time step."""
    farthest: float = 0.02
    """Å that the fastest atom may move in a step."""
    clear: float = 2.0
    """Å beyond the surface, or below the slab, at which the atom has left."""
    still_ev: float = 0.0
    """A shot ends when the atom's kinetic energy has been below this for `still_fs`, at a depth of
    more than `clear`; 0 for never."""
    still_fs: float = 100.0


class Ended(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a shot."""

    end: End
    time_fs: float
    steps: int
    place: tuple[float, float, float]
    """Of the atom, Å; z over the surface, so that the depth is negative."""
    lowest: float
    """Lowest z of the atom over the surface, Å."""
    energy: float
    """Its kinetic energy at the end, eV."""
    shortest_fs: float
    """Shortest time step."""
    drift: float
    """Potential and kinetic energy of all atoms at the end less that at the beginning, eV."""
    largest: float
    """Largest absolute value of that difference at any step, eV."""
    mismatch: float
    """Gain of kinetic energy less the work of the forces along the steps, largest absolute value,
    eV: the integrator's own error, also where no energy belongs to the forces."""


def time_step(fastest: float, shot: Projectile) -> float:
    """The next time step in fs, by the speed of the fastest atom in Å/fs.

    Raises:
        ConfigError: the speed is not finite.
    """
    if not math.isfinite(fastest):
        raise ConfigError("an atom of the shot has no finite velocity; the dynamics blew up")
    return min(shot.longest_fs, shot.farthest / fastest) if fastest > 0.0 else shot.longest_fs


def verdict(
    z: float, speed_z: float, time_fs: float, still_fs: float, shot: Projectile
) -> End | None:
    """How a shot has ended, or None while it goes on.

    Args:
        z: height of the atom over the surface, Å.
        speed_z: of the atom, Å/fs; positive is away from the slab.
        time_fs: since the beginning.
        still_fs: how long its kinetic energy has been below `still_ev` without a break.
        shot: the settings.
    """
    if z > shot.clear and speed_z > 0.0:
        return "reflected"
    if z < shot.bottom - shot.top - shot.clear and speed_z < 0.0:
        return "passed"
    inside = z < 0.0
    if shot.still_ev > 0.0 and still_fs >= shot.still_fs and z < -shot.clear:
        return "stopped"
    if time_fs >= shot.limit_fs:
        return "stopped" if inside else "undecided"
    return None


def read_shot(file: Path) -> Projectile:
    """The settings of a shot.

    Raises:
        ConfigError: there are none, or they are wrong.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=Projectile)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{file} does not hold the settings of a shot: {error}") from error


def read_ended(file: Path) -> Ended | None:
    """The end of a shot; None if it has not ended.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=Ended)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{file} does not hold the end of a shot ({error}); delete its folder to make the shot "
            "again"
        ) from error
