"""How an i-PI input or RESTART integrates: ensemble, thermostat, time step and target temperature.

Read from the XML alone, so that it works for a RESTART, which i-PI writes in atomic units.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mixserver.core.errors import ConfigError
from mixserver.core.ipi_import import import_ipi
from mixserver.ipi.input import read_input
from mixserver.ipi.text import element_text, list_entries

_WITHOUT_BATH: Final = frozenset({"nve", "nvt-cc"})
_WITH_BAROSTAT: Final = frozenset({"npt", "scnpt"})
_BARE: Final = frozenset({"", "dummy"})
"""Modes of a thermostat that does nothing."""


@dataclass(frozen=True, slots=True)
class Dynamics:
    """How i-PI moves the atoms of an input."""

    ensemble: str
    """"nve", "nvt", "npt", ..., or the mode of a motion that is not dynamics: "minimize"."""
    thermostat: str
    """Its mode, such as "langevin"; "" if there is none."""
    timestep_fs: float | None
    """None if the motion has no time step."""
    temperature: float | None
    """K, what the thermostat aims at; None without one."""
    beads: int
    systems: int
    steps_evaluated_once: bool
    """Whether each step of an MD run needs one evaluation: one system and one bead, one kind of
    dynamics, no multiple time steps and no moves between systems."""
    pressure_gpa: float | None = None
    """GPa, what the barostat aims at; None without one."""


def read_dynamics(file: Path) -> Dynamics:
    """Read how an i-PI input or RESTART integrates.

    Raises:
        ConfigError: it cannot be read, is not XML, or has a number that is none.
    """
    ipi = read_input(file)
    root = ET.parse(file).getroot()  # noqa: S314 - the user's own file
    moving = [node for node in root.iter("motion") if node.find("dynamics") is not None]
    first = ipi.motions[0] if ipi.motions else None
    if not moving or first is None:
        mode = "" if first is None else first.mode
        return Dynamics(mode, "", None, None, ipi.beads, len(ipi.systems), False)
    dynamics = moving[0].find("dynamics")
    if dynamics is None:
        raise ConfigError(f"i-PI's input {file} has a <motion> without <dynamics>")
    ensemble = dynamics.get("mode", "nve").strip()
    bath = dynamics.find("thermostat")
    thermostat = "" if bath is None else bath.get("mode", "").strip()
    thermostat = "" if thermostat in _BARE or ensemble in _WITHOUT_BATH else thermostat
    target = None
    if thermostat:
        target = _value(root.find("system/ensemble/temperature"), "temperature", "kelvin", file)
        template = root.find("system_template")
        target = None if template is not None else target
    once = (
        len(ipi.systems) == 1
        and ipi.beads == 1
        and [motion.mode for motion in ipi.motions] == ["dynamics"]
        and not ipi.smotions
        and set(list_entries(element_text(dynamics, "nmts", "1"))) <= {"1"}
        and len(ipi.systems[0].forces) == 1
    )
    return Dynamics(
        ensemble,
        thermostat,
        _value(dynamics.find("timestep"), "time", "femtosecond", file),
        target if target is None or target > 0.0 else None,
        ipi.beads,
        len(ipi.systems),
        once,
        _pressure(root, ensemble, file),
    )


def _pressure(root: ET.Element, ensemble: str, file: Path) -> float | None:
    """GPa that a barostat aims at; i-PI's default is zero."""
    if ensemble not in _WITH_BAROSTAT or root.find("system_template") is not None:
        return None
    megapascal = _value(root.find("system/ensemble/pressure"), "pressure", "megapascal", file)
    return 1e-3 * (megapascal or 0.0)


def _value(node: ET.Element | None, dimension: str, unit: str, file: Path) -> float | None:
    """The number of an element in a unit of i-PI's; None if there is none.

    Raises:
        ConfigError: it is not a number, or its unit is unknown.
    """
    if node is None or not (node.text or "").strip():
        return None
    import_ipi()
    from ipi.utils.units import unit_to_internal, unit_to_user  # noqa: PLC0415 - takes a while

    given = node.get("units", "").strip() or "atomic_unit"
    text = (node.text or "").strip()
    try:
        inside = unit_to_internal(dimension, given, float(text))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"i-PI's input {file}: <{node.tag} units='{given}'> {text!r} must be a number with a "
            f"unit of {dimension} that i-PI knows ({error})"
        ) from error
    return float(unit_to_user(dimension, unit, inside))
