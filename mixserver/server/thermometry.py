"""Whether temperatures by region can be measured in a run, and with which masses and time step."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

import numpy as np
from ase.data import atomic_masses

from mixserver.config import Case
from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.core.labels import ISOTOPES
from mixserver.ipi.dynamics import Dynamics
from mixserver.server.records.thermometer import RegionThermometer
from mixserver.server.reference.structure import find_ipi_input, find_reference

_ELECTRON: Final = 1822.888486
"""Electron masses per amu."""


def region_thermometer(case: Case, source: Path, dynamics: Dynamics) -> RegionThermometer | None:
    """A thermometer for a run; None where steps, time or masses are not known.

    Each evaluation must be one step of one bead. Isotopes and masses of one's own are known from a
    RESTART only.

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
    """The masses (N,) amu of a run's atoms; None if they are not those of the elements."""
    root = ET.parse(source).getroot()  # noqa: S314 - the user's own file
    beads = root.find("system/beads/m")
    if beads is not None:
        words = (beads.text or "").replace("[", " ").replace("]", " ").replace(",", " ").split()
        return np.array(words, dtype=np.float64) / _ELECTRON
    try:
        reference = find_reference(case, find_ipi_input(case))
    except ConfigError:
        return None
    own = root.find(".//initialize/masses") is not None
    if own or any(label in ISOTOPES for label in reference.labels):
        return None
    found: Scalars = atomic_masses[reference.topology.numbers]
    return found
