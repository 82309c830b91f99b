"""Whether temperatures by region can be measured in a run, and with which masses and time step."""

from __future__ import annotations

from pathlib import Path

from mixserver.config import Case
from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.ipi.dynamics import Dynamics
from mixserver.ipi.start import read_initial_state
from mixserver.server.records.thermometer import RegionThermometer
from mixserver.server.reference.structure import read_reference


def region_thermometer(case: Case, source: Path, dynamics: Dynamics) -> RegionThermometer | None:
    """A thermometer for a run; None where steps, time or masses are not known.

    Each evaluation must be one step of one bead.

    Args:
        case: the case.
        source: the input or RESTART that i-PI starts from.
        dynamics: what `read_dynamics` found there.
    """
    one_channel = {channel for channel, _ in case.channels} == {"mixed"}
    step = dynamics.timestep_fs
    if not (dynamics.steps_evaluated_once and one_channel and step and case.config.region):
        return None
    masses = _masses(case, source)
    return None if masses is None else RegionThermometer(masses, step)


def _masses(case: Case, source: Path) -> Scalars | None:
    """The masses (N,) amu of the atoms that i-PI sends, as i-PI has them; None if unknown."""
    try:
        masses = read_initial_state(source, 0).masses
        sent = len(read_reference(case)[0])
    except ConfigError:
        return None
    return masses if len(masses) == sent else None  # i-PI may send some of its atoms only
