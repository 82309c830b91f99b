"""The temperatures of core, blend and bulk over a run, as a column file in i-PI's style.

Counts the momentum components of each group, from i-PI's data; `extras` defines the groups.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from ipi.engine.outputs import BaseOutput, PropertyOutput
from ipi.utils.depend import dstrip
from ipi.utils.units import Constants, unit_to_user

from mixserver.core.arrays import Mask, Scalars, Vectors
from mixserver.ipi.host.extras import LambdaReader

FILE: Final = "temperature.out"
STRIDE: Final = 10
"""Steps between two lines where the input has no <properties> to go by."""

COLUMNS: Final = (
    ("step", "the current simulation time step"),
    ("time{picosecond}", "the elapsed simulation time"),
    ("T_core{kelvin}", "of the atoms with lambda = 1; nan if there are none that move"),
    ("T_blend{kelvin}", "of the atoms with 0 < lambda < 1; nan if there are none that move"),
    ("T_bulk{kelvin}", "of the atoms with lambda = 0; nan if there are none that move"),
    ("atoms_core", "number of atoms with lambda = 1"),
    ("atoms_blend", "number of atoms with 0 < lambda < 1"),
    ("atoms_bulk", "number of atoms with lambda = 0"),
)
"""Name of each column with i-PI's name of its unit, and its description."""


def group_temperatures(
    momenta: Vectors, masses: Scalars, lambdas: Scalars, free: Mask, *, fixed_centre: bool
) -> tuple[Scalars, Scalars]:
    """Kinetic temperatures of core, blend and bulk at one moment.

    Args:
        momenta: (N, 3).
        masses: (N,).
        lambdas: (N,) expensive fractions.
        free: (N, 3) components that i-PI does not hold at zero.
        fixed_centre: i-PI keeps the total momentum at zero. That takes three components from the
            whole; a group lacks them in proportion to its mass.

    Returns:
        (3,) kT of core, blend and bulk in the units of p^2/m, nan for a group that cannot move, and
        (3,) how many atoms each has.
    """
    twice = np.where(free, momenta**2 / masses[:, None], 0.0).sum(axis=1)
    components = free.sum(axis=1) - (3.0 * masses / masses.sum() if fixed_centre else 0.0)
    core, bulk = lambdas >= 1.0, lambdas <= 0.0
    found = np.full(3, np.nan)
    groups = np.array([core, ~core & ~bulk, bulk])
    for at, group in enumerate(groups):
        share = components[group].sum() if free[group].any() else 0.0
        if share > 0.0:
            found[at] = twice[group].sum() / share
    return found, groups.sum(axis=1).astype(np.float64)


class TemperatureOutput:
    """A further output of an i-PI simulation; a restart continues its file."""

    def __init__(self, simulation: Any) -> None:
        self._system = simulation.syslist[0]
        self._lambdas = LambdaReader(self._system)
        motion, beads = self._system.motion, self._system.beads
        free = np.ones(3 * beads.natoms, dtype=np.bool_)
        free[np.asarray(motion.fixatoms_dof, dtype=np.intp)] = False
        self._free = free.reshape(-1, 3)
        self._fixed_centre = bool(motion.fixcom)
        strides = [o.stride for o in simulation.outtemplate if isinstance(o, PropertyOutput)]
        self._file = BaseOutput(FILE, strides[0] if strides else STRIDE)
        self._file.bind("w" if simulation.step == 0 else "a", self._system)
        if self._file.out.tell() == 0:
            self._file.write(header())

    def active(self) -> bool:
        """Whether i-PI is at a step of which there should be a line."""
        return bool(self._file.active())

    def write(self) -> None:
        """Write the line of this step, if there should be one.

        Raises:
            ConfigError: no lambda came with the forces.
            ProtocolError: the extras cannot be lambda.
        """
        if not self.active():
            return
        system = self._system
        temperatures, atoms = group_temperatures(
            dstrip(system.beads.p)[0].reshape(-1, 3),
            dstrip(system.beads.m),
            self._lambdas.latest(),
            self._free,
            fixed_centre=self._fixed_centre,
        )
        kelvin = unit_to_user("temperature", "kelvin", 1.0) / Constants.kb
        numbers = [
            system.simul.step + 1,
            unit_to_user("time", "picosecond", system.ensemble.time),
            *(kelvin * temperatures),
            *atoms,
        ]
        self._file.write("  " + " ".join(f"{number:16.8e}" for number in numbers) + "\n")
        self._file.force_flush()


def header() -> str:
    """The commented header of the file."""
    return "".join(
        f"# column {at:3d}     --> {name} : {what}\n" for at, (name, what) in enumerate(COLUMNS, 1)
    )
