"""What i-PI shall do with the atoms: ensemble, timestep, temperature, pressure, length."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from mixserver.core.errors import ConfigError

Ensemble: TypeAlias = Literal["nvt", "nve", "npt", "minimize"]

_TIME: Final = {"fs": 1.0, "ps": 1e3, "ns": 1e6}
_TEMPERATURE: Final = {"K": 1.0}
_PRESSURE: Final = {
    "GPa": 1.0,
    "MPa": 1e-3,
    "kPa": 1e-6,
    "Pa": 1e-9,
    "kbar": 0.1,
    "bar": 1e-4,
    "atm": 1.01325e-4,
}
_WRITTEN: Final = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")


@dataclass(frozen=True)
class Motion:
    """How the atoms move."""

    ensemble: Ensemble = "nvt"
    timestep: float = 1.0
    """fs."""
    steps: int = 2000
    temperature: float = 300.0
    """K."""
    thermostat: Literal["langevin", "svr"] = "langevin"
    tau: float = 100.0
    """fs, of the thermostat."""
    pressure: float = 0.0
    """GPa."""
    barostat: Literal["isotropic", "orthogonal", "flexible"] = "isotropic"
    """What of the cell may change: its volume, its three edges, everything."""
    barostat_tau: float = 500.0
    """fs."""
    optimiser: Literal["lbfgs", "cg", "sd"] = "lbfgs"
    force_tolerance: float = 1e-3
    """eV/Å, of a geometry optimisation."""
    energy_tolerance: float = 1e-7
    """eV, of a geometry optimisation."""
    fixed: tuple[int, ...] = ()
    """Indices of atoms that do not move, from 0."""
    remove_drift: bool = False
    """Whether i-PI keeps the centre of mass at rest."""
    every: int = 10
    """Steps between two lines of properties."""
    frames_every: int = 100
    """Steps between two frames of the trajectory."""
    checkpoint_every: int = 1000


def femtoseconds(text: str, option: str) -> float:
    """A time with its unit, in fs.

    Raises:
        ConfigError: no number, no unit or another one, or not above 0.
    """
    return _positive(_quantity(text, _TIME, option, "1fs or 0.5ps"), text, option)


def kelvin(text: str, option: str) -> float:
    """A temperature, in K; a bare number is in K.

    Raises:
        ConfigError: no number, another unit, or not above 0.
    """
    bare = f"{text}K" if text.strip() and text.strip()[-1].isdigit() else text
    return _positive(_quantity(bare, _TEMPERATURE, option, "300K"), text, option)


def gigapascal(text: str, option: str) -> float:
    """A pressure with its unit, in GPa.

    Raises:
        ConfigError: no number, no unit or another one.
    """
    return _quantity(text, _PRESSURE, option, "0GPa or 1bar")


def number_of_steps(text: str, timestep: float, option: str) -> int:
    """A length of a run, as a time ("2ps") or in steps ("2000steps").

    Args:
        text: what the user wrote.
        timestep: fs.
        option: for messages.

    Raises:
        ConfigError: no number, no unit or another one, or less than one step.
    """
    units = {**_TIME, "steps": timestep, "step": timestep}
    steps = round(_quantity(text, units, option, "2ps or 2000steps") / timestep)
    if steps < 1:
        raise ConfigError(f"{option} {text}: less than one step of {timestep:g} fs")
    return steps


def _quantity(text: str, units: dict[str, float], option: str, example: str) -> float:
    found = _WRITTEN.fullmatch(text)
    if found is None or found[2] not in units:
        what = "has no unit" if found is not None and not found[2] else "was not understood"
        raise ConfigError(
            f"{option} {text!r} {what}; write a number and one of {', '.join(units)}, such as "
            f"{example}"
        )
    return float(found[1]) * units[found[2]]


def _positive(value: float, text: str, option: str) -> float:
    if not value > 0.0:
        raise ConfigError(f"{option} {text!r} must be above 0")
    return value
