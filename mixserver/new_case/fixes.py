"""LAMMPS's fixes that move atoms, as i-PI's ensemble, thermostat and barostat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from mixserver.core.errors import ConfigError
from mixserver.new_case.motion import Ensemble
from mixserver.wire.lammps_input import InputLine, LammpsState

Said: TypeAlias = tuple[Literal["kept", "changed", "none"], str]

_FEMTOSECONDS: Final = {"metal": 1e3, "real": 1.0}
_GIGAPASCAL: Final = {"metal": 1e-4, "real": 1.01325e-4}
"""Per bar and per atm."""
_WITHOUT: Final = {
    "temp/berendsen": "i-PI has no Berendsen thermostat (it samples no ensemble); --ensemble nvt "
    "gives a Langevin thermostat",
    "press/berendsen": "i-PI has no Berendsen barostat (it samples no ensemble); --ensemble npt "
    "gives one that samples NPT",
    "temp/rescale": "i-PI has no rescaling of velocities (it samples no ensemble); --ensemble nvt "
    "gives a Langevin thermostat",
    "nph": "i-PI has no NPH ensemble; --ensemble npt or nve",
    "box/relax": "i-PI's optimisers keep the cell; relax it with LAMMPS, or run NPT",
    "deform": "i-PI changes cells by barostats only",
    "recenter": "positions are never shifted; <fixcom> keeps the centre of mass at rest",
    "balance": "how LAMMPS computes; the worker chooses for itself",
    "ipi": "the worker is connected by mixserver itself",
    "spring/self": "i-PI has no springs to start positions; an own <forcefield> could add them",
    "addforce": "i-PI adds forces by a further <forcefield> only",
}
_AVERAGES: Final = ("ave/", "print", "store/", "msst", "vector", "property/", "halt", "dt/reset")


@dataclass
class Integration:
    """What the fixes of an input amount to."""

    ensemble: Ensemble | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """Fields of `Motion`."""
    said: dict[str, Said] = field(default_factory=dict)
    """What became of each fix, by its ID."""


def integration_of(fixes: Sequence[InputLine], state: LammpsState) -> Integration:
    """The ensemble that some fixes make, and what became of each.

    Raises:
        ConfigError: two fixes integrate the same motion, thermostats differ, or a fix has too few
            words.
    """
    found = Integration()
    integrators: list[InputLine] = []
    thermostats: list[InputLine] = []
    for line in fixes:
        name, style, words = line.words[1], line.words[3], line.words[4:]
        try:
            if style in {"nve", "nvt", "npt"}:
                integrators.append(line)
                _integrate(found, line, state)
            elif style in {"langevin", "temp/csvr"}:
                thermostats.append(line)
                _thermostat(found, name, style, words, state)
            elif style == "momentum":
                found.settings["remove_drift"] = True
                found.said[name] = ("changed", "<fixcom> True: the centre of mass stays at rest")
            elif style == "setforce":
                _hold(found, line)
            else:
                found.said[name] = ("none", _without(style))
        except (IndexError, ValueError) as error:
            raise ConfigError(
                f"{line.file}:{line.number}: {line.text!r}: a number or word is missing ({error})"
            ) from error
    if len(integrators) > 1:
        names = ", ".join(f"{line.words[1]} ({line.words[3]})" for line in integrators)
        raise ConfigError(
            f"several fixes integrate the equations of motion: {names}. i-PI has one <dynamics> "
            "for all atoms; choose with --ensemble and --structure instead of --from-lammps"
        )
    if thermostats and found.ensemble == "nve":
        found.ensemble = "nvt"
        integrator = integrators[0].words[1]
        how, said = found.said[integrator]
        found.said[integrator] = how, said.replace("mode='nve'", "mode='nvt'", 1)
    _check_thermostats(found, integrators, thermostats, len(state.ids))
    if found.ensemble is not None:
        found.settings["ensemble"] = found.ensemble
    _drop_drift(found)
    return found


def _integrate(found: Integration, line: InputLine, state: LammpsState) -> None:
    name, style, words = line.words[1], line.words[3], line.words[4:]
    said: list[str] = []
    found.ensemble = "nve" if style == "nve" else "nvt" if style == "nvt" else "npt"
    level: Literal["kept", "changed"] = "kept"
    at = 0
    if style == "nve":
        said.append("<dynamics mode='nve'>")
    pressures: dict[str, tuple[float, float]] = {}
    while at < len(words):
        key = words[at]
        if key == "temp":
            low, high, damping = (float(word) for word in words[at + 1 : at + 4])
            tau = damping * _FEMTOSECONDS[state.units]
            found.settings |= {"temperature": high, "thermostat": "svr", "tau": tau}
            level = "changed"
            said.append(
                f"<temperature> {high:g} K; the Nosé-Hoover chain becomes stochastic velocity "
                f"rescaling with tau {tau:g} fs (global as well, and samples the same ensemble)"
            )
            if low != high:
                said.append(f"NO ramp from {low:g} K (i-PI's <motion mode='t_ramp'>)")
            at += 4
        elif key in {"iso", "aniso", "tri", "x", "y", "z", "xy", "xz", "yz"}:
            low, high, damping = (float(word) for word in words[at + 1 : at + 4])
            pressures[key] = (high, damping)
            if low != high:
                said.append(f"NO ramp from {low:g}")
            at += 4
        else:
            said.append(f"{' '.join(words[at : at + 2])}: not carried over")
            at += 2
    if pressures:
        level = "changed"
        said.append(_barostat(found, pressures, state))
    if line.atoms is not None:
        moving = set(line.atoms)
        still = tuple(i for i in range(len(state.ids)) if i not in moving)
        found.settings["fixed"] = tuple(sorted({*found.settings.get("fixed", ()), *still}))
        said.append(f"<fixatoms>: the {len(still)} atoms outside its group do not move")
    found.said[name] = (level, "; ".join(said))


def _barostat(
    found: Integration, pressures: dict[str, tuple[float, float]], state: LammpsState
) -> str:
    """Settings of the barostat, and a sentence about them."""
    kinds = set(pressures)
    value, damping = next(iter(pressures.values()))
    normal = {"x", "y", "z"}
    uneven = len({(p, d) for key, (p, d) in pressures.items() if key in normal}) > 1
    sheared = any(p != 0.0 for key, (p, _) in pressures.items() if len(key) == 2)
    if uneven or sheared or (kinds & normal and not normal <= kinds):
        raise ConfigError(
            f"fix npt with {' '.join(sorted(kinds))}: i-PI's barostats apply one pressure to the "
            "volume, to the three edges or to the whole cell, not to some of them. Use iso, aniso "
            "or tri, or --ensemble nvt"
        )
    barostat: str
    if kinds == {"iso"}:
        barostat, words = "isotropic", "an isotropic barostat"
    elif kinds in ({"aniso"}, normal):
        barostat, words = "orthogonal", "a flexible barostat whose angles are held fixed"
    else:
        barostat, words = "flexible", "a flexible barostat"
    pressure = value * _GIGAPASCAL[state.units]
    tau = damping * _FEMTOSECONDS[state.units]
    found.settings |= {"pressure": pressure, "barostat": barostat, "barostat_tau": tau}
    return f"<pressure> {pressure:g} GPa, {words} with tau {tau:g} fs"


def _thermostat(
    found: Integration, name: str, style: str, words: Sequence[str], state: LammpsState
) -> None:
    low, high, damping = (float(word) for word in words[:3])
    tau = damping * _FEMTOSECONDS[state.units]
    kind = "langevin" if style == "langevin" else "svr"
    found.settings |= {"temperature": high, "thermostat": kind, "tau": tau}
    said = f"<thermostat mode='{kind}'> with tau {tau:g} fs, <temperature> {high:g} K"
    level: Literal["kept", "changed"] = "kept"
    if low != high:
        level, said = "changed", f"{said}; NO ramp from {low:g} K (i-PI's <motion mode='t_ramp'>)"
    if words[4:]:
        said += f"; {' '.join(words[4:])}: not carried over"
    found.said[name] = (level, said)


def _settings(line: InputLine) -> tuple[str | float, ...]:
    """Style, temperatures and damping of a thermostat, so that 300 and 300.0 are the same."""
    style, *numbers = line.words[3:7]
    try:
        return style, *(float(word) for word in numbers)
    except ValueError:
        return style, *numbers


def _check_thermostats(
    found: Integration,
    integrators: Sequence[InputLine],
    thermostats: Sequence[InputLine],
    atoms: int,
) -> None:
    """Say of a thermostat on some atoms that i-PI's acts on all.

    Raises:
        ConfigError: there are several, which cannot become one.
    """
    both = [line for line in integrators if line.words[3] != "nve" and "temp" in line.words]
    every = [*both, *thermostats]
    if thermostats and len({_settings(line) for line in every}) > 1:
        names = ", ".join(f"{line.words[1]} ({line.text})" for line in every)
        raise ConfigError(
            f"several thermostats: {names}. i-PI has one for all atoms that move; leave one, or "
            "choose with --ensemble and --structure instead of --from-lammps"
        )
    moving = set(range(atoms)) - set(found.settings.get("fixed", ()))
    covered = [set(range(atoms) if line.atoms is None else line.atoms) for line in thermostats]
    if thermostats and moving - set().union(*covered):
        for line in thermostats:
            said = found.said[line.words[1]][1]
            found.said[line.words[1]] = (
                "changed",
                f"{said}; it acts on ALL atoms that move, not on the group {line.words[2]} alone",
            )


def _hold(found: Integration, line: InputLine) -> None:
    name, values = line.words[1], line.words[4:7]
    if "NULL" in values and set(values) <= {"NULL", "0", "0.0"}:
        axes = ", ".join(f"3i+{at}" if at else "3i" for at in range(3) if values[at] != "NULL")
        found.said[name] = (
            "none",
            f"NULL leaves components free, and <fixatoms> holds all three: write {axes} of each "
            "atom i, from 0, into <fixatoms_dof> of <motion> by hand",
        )
        return
    if line.atoms is None or not all(_is_zero(value) for value in values):
        found.said[name] = ("none", "i-PI sets no forces; <fixatoms> holds atoms at their places")
        return
    held = set(found.settings.get("fixed", ())) | set(line.atoms)
    found.settings["fixed"] = tuple(sorted(held))
    found.said[name] = (
        "changed",
        f"<fixatoms>: its {len(line.atoms)} atoms do not move (in LAMMPS they keep their velocity)",
    )


def _is_zero(word: str) -> bool:
    """Whether it is 0, and no other number or a variable of LAMMPS."""
    try:
        return float(word) == 0.0
    except ValueError:
        return False


def _drop_drift(found: Integration) -> None:
    """i-PI refuses <fixcom> together with <fixatoms>."""
    if found.settings.get("fixed"):
        found.settings.pop("remove_drift", None)


def _without(style: str) -> str:
    if style in _WITHOUT:
        return _WITHOUT[style]
    if style.startswith(_AVERAGES):
        return "output or bookkeeping of LAMMPS; i-PI's is in <output>"
    return f"i-PI has no counterpart of fix {style}"
