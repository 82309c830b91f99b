"""Makes an i-PI simulation a shot: its time step follows the fastest atom, and rules end it.

Replaces the step of one <motion>, not its class, and ends the simulation by i-PI's own means: a
motion that says it is finished. So i-PI writes its outputs and its RESTART as ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from ipi.engine.motion import Dynamics
from ipi.utils.depend import dstrip
from ipi.utils.units import unit_to_user

from mixserver.core.arrays import Vectors
from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError
from mixserver.core.units import BOHR, HARTREE
from mixserver.ipi.projectile import ENDED, ENDS, Ended, Projectile, read_shot, time_step, verdict

_FS: Final = float(unit_to_user("time", "femtosecond", 1.0))
"""fs in i-PI's unit of time."""


class Shot:
    """The step of i-PI's dynamics with the time step and the end of a shot."""

    def __init__(self, motion: Any, settings: Projectile, folder: Path) -> None:
        self._motion = motion
        self._settings = settings
        self._file = folder / ENDED
        self._step = motion.step
        self._time = 0.0
        self._still = 0.0
        self._steps = 0
        self._lowest = np.inf
        self._shortest = np.inf
        self._work = 0.0
        self._largest = self._mismatch = 0.0
        self._start: tuple[float, float] | None = None

    def step(self, step: int | None = None) -> None:
        """One step of the dynamics.

        Raises:
            ConfigError: the dynamics blew up.
        """
        motion, settings = self._motion, self._settings
        start = self._start = self._start or (self._kinetic(), self._potential())
        places, forces = self._places(), self._forces()
        fastest = float(np.sqrt((self._speeds() ** 2).sum(axis=1).max()))
        length = time_step(fastest, settings)
        motion.dt = length / _FS
        # i-PI 3.3.1 computes dt/m of its position steps once: nothing tells it of another dt
        motion.integrator._qdt_on_m.taint(taintme=True)
        self._step(step)
        self._time += length
        self._steps += 1
        self._shortest = min(self._shortest, length)
        self._count(start, places, forces, length)

    def _count(
        self, start: tuple[float, float], places: Vectors, forces: Vectors, length: float
    ) -> None:
        """Count energies, and see whether the shot is over."""
        settings = self._settings
        kinetic, potential = start
        moved = self._places() - places
        self._work += 0.5 * float(((forces + self._forces()) * moved).sum()) * HARTREE
        gained = self._kinetic() - kinetic
        drift = gained + self._potential() - potential
        self._largest = max(self._largest, abs(drift))
        self._mismatch = max(self._mismatch, abs(gained - self._work))

        x, y, z = (BOHR * self._places()[settings.atom]).tolist()
        speed = self._speeds()[settings.atom]
        mass = float(dstrip(self._motion.beads.m)[settings.atom])
        energy = 0.5 * mass * float((speed**2).sum()) * (_FS / BOHR) ** 2 * HARTREE
        self._lowest = min(self._lowest, z - settings.top)
        self._still = self._still + length if energy < settings.still_ev else 0.0
        end = verdict(z - settings.top, float(speed[2]), self._time, self._still, settings)
        if end is None:
            return
        ended = Ended(
            end=end,
            time_fs=self._time,
            steps=self._steps,
            place=(x, y, z - settings.top),
            lowest=float(self._lowest),
            energy=energy,
            shortest_fs=float(self._shortest),
            drift=drift,
            largest=self._largest,
            mismatch=self._mismatch,
        )
        write_atomically(self._file, msgspec.json.encode(ended))
        self._motion.finished = True
        self._motion.exit_status = "success"
        self._motion.exit_message = f"the atom {ENDS[end]}"

    def _places(self) -> Vectors:
        return np.array(dstrip(self._motion.beads.q)[0]).reshape(-1, 3)

    def _forces(self) -> Vectors:
        return np.array(dstrip(self._motion.forces.f)[0]).reshape(-1, 3)

    def _speeds(self) -> Vectors:
        """(N, 3) Å/fs."""
        beads = self._motion.beads
        speeds: Vectors = np.array(dstrip(beads.p)[0] / dstrip(beads.m3)[0]).reshape(-1, 3)
        return speeds * (BOHR / _FS)

    def _kinetic(self) -> float:
        beads = self._motion.beads
        return 0.5 * float((dstrip(beads.p)[0] ** 2 / dstrip(beads.m3)[0]).sum()) * HARTREE

    def _potential(self) -> float:
        return float(self._motion.forces.pot) * HARTREE


def install_shot(simulation: Any, file: Path) -> None:
    """Make a simulation a shot by the settings in a file; its end is written beside them.

    Raises:
        ConfigError: the file is wrong, or this simulation can be none.
    """
    settings = read_shot(file)
    systems = simulation.syslist
    one = systems[0] if len(systems) == 1 else None
    dynamics = one is not None and type(one.motion) is Dynamics and one.motion.enstype == "nve"
    if one is None or not dynamics or one.beads.nbeads != 1:
        raise ConfigError(
            "a shot needs one <system> with one bead, <motion mode='dynamics'> and <dynamics "
            "mode='nve'>"
        )
    if not 0 <= settings.atom < one.beads.natoms:
        raise ConfigError(
            f"{file}: atom = {settings.atom}, but there are {one.beads.natoms}, counted from 0"
        )
    if settings.bottom >= settings.top:
        raise ConfigError(
            f"{file}: bottom = {settings.bottom:g} is not below top = {settings.top:g}"
        )
    one.motion.step = Shot(one.motion, settings, file.parent).step
