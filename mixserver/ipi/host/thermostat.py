"""Makes the Langevin thermostat of an i-PI simulation act outside the core only.

Replaces the step of one instance, not its class: what i-PI writes into RESTART is the
ordinary Langevin thermostat of the input, with its tau and its heat. The random numbers are i-PI's
too, so a restart continues with the same ones.
"""

from __future__ import annotations

from typing import Any

from ipi.engine.motion import Dynamics
from ipi.engine.thermostats import ThermoLangevin
from ipi.utils.depend import dstrip
from ipi.utils.units import Constants

from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.ipi.host.extras import LambdaReader
from mixserver.ipi.host.langevin import Friction, friction, kick


class CheapThermostat:
    """The step of i-PI's ThermoLangevin with a friction (1 - lambda)/tau per atom.

    Under OBABO the step is taken where the last forces were evaluated. Under BAOAB the atoms have
    moved by half a step since, and lambda is that half step old: no force is evaluated for it, and
    as friction at any lambda keeps the temperature, the error is of second order in the time step,
    like the integrator's own.
    """

    def __init__(self, thermostat: Any, lambdas: LambdaReader) -> None:
        self._thermostat = thermostat
        self._lambdas = lambdas
        self._known: tuple[Scalars, float] | None = None
        self._friction: Friction

    def step(self) -> None:
        """One step of i-PI's thermostat: a half of the time step, or a whole one under BAOAB.

        Raises:
            ConfigError: no lambda came with the forces.
            ProtocolError: the extras cannot be lambda.
        """
        bath = self._thermostat
        chosen = self._coefficients(self._lambdas.latest(), float(bath.dt / bath.tau))
        momenta = dstrip(bath.p)
        moved, heat = kick(
            momenta,
            dstrip(bath.sm),
            chosen,
            float(Constants.kb * bath.temp),
            bath.prng.gvec(len(momenta)),
        )
        bath.p[:] = moved
        bath.ethermo += heat

    def _coefficients(self, lambdas: Scalars, steps: float) -> Friction:
        if self._known is None or self._known[0] is not lambdas or self._known[1] != steps:
            self._friction = friction(lambdas, steps)
            self._known = (lambdas, steps)
        return self._friction


def install_thermostat(simulation: Any) -> None:
    """Make a simulation's thermostat act outside the core; call it before i-PI binds its parts.

    Raises:
        ConfigError: this simulation has no thermostat for which that is right.
    """
    reason = unsupported_reason(simulation)
    if reason:
        raise ConfigError(
            f"ipi.thermostat = 'cheap' is not possible here: {reason}. It needs one <system> with "
            "one bead, <motion mode='dynamics'>, <dynamics mode='nvt'> and <thermostat "
            "mode='langevin'>; or set ipi.thermostat = 'everywhere'"
        )
    system = simulation.syslist[0]
    bath = system.motion.thermostat
    bath.step = CheapThermostat(bath, LambdaReader(system)).step


def unsupported_reason(simulation: Any) -> str:
    """Why a simulation cannot have a thermostat outside the core, or ""."""
    if len(simulation.syslist) != 1:
        return f"there are {len(simulation.syslist)} systems"
    system = simulation.syslist[0]
    motion = system.motion
    if type(motion) is not Dynamics:
        return f"the motion is {type(motion).__name__}"
    if motion.enstype != "nvt":
        return f"the dynamics are {motion.enstype!r}"
    if type(motion.thermostat) is not ThermoLangevin:
        return f"the thermostat is {type(motion.thermostat).__name__}"
    if system.beads.nbeads != 1:
        return f"there are {system.beads.nbeads} beads"
    return ""
