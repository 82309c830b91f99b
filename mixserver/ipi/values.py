"""Values in an i-PI input, by i-PI's own rules: invalid ones, and quantities with their units.

i-PI checks modes, units and names of outputs only when it builds a simulation, after the models
were loaded. Here they are checked before.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mixserver.core.errors import ConfigError
from mixserver.ipi.parse import expand_template, ipi_errors_as_config_errors, parse_with_xml

_SHOWN: Final = {
    "time": "femtosecond",
    "temperature": "kelvin",
    "pressure": "megapascal",
    "energy": "electronvolt",
    "length": "angstrom",
    "force": "ev/ang",
    "mass": "dalton",
    "frequency": "inversecm",
}
"""The unit in which a value is shown to people, by i-PI's dimension."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of the input that has a dimension."""

    tag: str
    dimension: str
    """By i-PI's name: "time", "temperature" ..."""
    written: str
    unit: str
    """As written; "" if there is none, for which i-PI assumes atomic units."""
    value: float
    """In `usual`."""
    usual: str
    """The unit that people use, by i-PI's name."""

    @property
    def shown(self) -> str:
        """The value as i-PI interprets it: "0.121 femtosecond"."""
        return f"{self.value:.3g} {self.usual}"


_PARTS: Final = ("motion", "ensemble", "forces", "normal_modes")


def physical_quantities(file: Path) -> tuple[Quantity, ...]:
    """Numbers of an input that have a dimension, each once; zeros and lists are left out.

    A RESTART is passed over: i-PI itself wrote it, in atomic units throughout.

    Raises:
        ConfigError: i-PI would refuse the input.
    """
    found: list[Quantity] = []
    for parser, node in _roots(file):
        for name, field, child in _fields(parser, node):
            dimension = _dimension(name, field, child)
            if dimension in _SHOWN:
                found += _quantity(name, dimension, child)
    return tuple(dict.fromkeys(found))


def invalid_values(file: Path) -> list[str]:
    """Values that i-PI refuses only after parsing: modes, units, names of outputs and forces.

    Raises:
        ConfigError: i-PI's parser refuses the input.
    """
    found: list[str] = []
    simulation, _ = parse_with_xml(file)
    where = f"i-PI's input {file}"
    for parser, node in _roots(file):
        for name, field, child in _fields(parser, node):
            found += _refused(f"{where}: <{name}>", field, child)
    forcefields = [field.name.fetch() for name, field in simulation.extra if name.startswith("ff")]
    systems = [field for name, field in simulation.extra if name == "system"]
    templates = [field for name, field in simulation.extra if name == "system_template"]
    systems += [one for some in templates for _, one in expand_template(some, file.parent)]
    for system in systems:
        names = [force.forcefield.fetch() for _, force in system.forces.extra]
        found += _unknown(f"{where}: <force forcefield=...>", names, forcefields)
    found += _outputs(where, simulation)
    if not found:
        found = _built(where, file.parent, simulation, systems)
    return list(dict.fromkeys(found))


def _roots(file: Path) -> Iterator[tuple[Any, Any]]:
    """i-PI's objects with the XML they come from: the simulation, and systems of templates."""
    simulation, node = parse_with_xml(file)
    yield simulation, node
    for name, field in simulation.extra:
        if name == "system_template":
            for child, system in expand_template(field, file.parent):
                yield system, child


def _fields(parser: Any, node: Any) -> Iterator[tuple[str, Any, Any]]:
    """(tag, i-PI's object, XML) of everything inside a node; a system of a RESTART is not."""
    if any(name == "beads" for name, _ in node.fields):
        return
    extras: dict[str, list[Any]] = {}
    for name, field in parser.extra:
        extras.setdefault(name, []).append(field)
    for name, child in node.fields:
        if name == "_text":
            continue
        field = extras[name].pop(0) if extras.get(name) else parser.__dict__.get(name)
        if not hasattr(field, "instancefields"):
            continue
        yield name, field, child
        yield from _fields(field, child)


def _refused(where: str, field: Any, node: Any) -> list[str]:
    """i-PI's errors about the attributes and the value of a tag."""
    from ipi.utils.inputvalue import InputRaw, InputValue  # noqa: PLC0415 - heavy

    found = []
    looked_at = [(f"{where} {name}=", field.__dict__[name]) for name in node.attribs]
    in_a_file = node.attribs.get("mode", "").strip() == "file"  # an array may be
    if isinstance(field, InputValue) and not isinstance(field, InputRaw) and not in_a_file:
        looked_at.append((where, field))
    for what, value in looked_at:
        try:
            with ipi_errors_as_config_errors(what):
                value.fetch()
        except ConfigError as error:
            valid = [str(option) for option in getattr(value, "_valid", None) or ()]
            near = difflib.get_close_matches(str(getattr(value, "value", "")), valid, n=2)
            found.append(f"{error}{_or(near)}")
    return found


def _built(where: str, folder: Path, simulation: Any, systems: list[Any]) -> list[str]:
    """i-PI's errors when it builds objects from values that are valid one by one."""
    made = [(name, field) for name, field in simulation.extra if _harmless(name, field)]
    for system in systems:
        made += [(part, getattr(system, part)) for part in _PARTS]
    found = []
    for name, field in [*made, ("smotion", simulation.smotion)]:
        try:
            with ipi_errors_as_config_errors(f"{where}: <{name}>"), contextlib.chdir(folder):
                field.fetch()
        except ConfigError as error:
            found.append(str(error))
    return found


def _harmless(name: str, field: Any) -> bool:
    """Force fields that load no model and open nothing when they are made."""
    if name in {"ffcommittee", "ffrotations"}:
        return all(_harmless(inner, one) for inner, one in field.extra)
    return name in {"ffsocket", "ffcavphsocket"}


def _outputs(where: str, simulation: Any) -> list[str]:
    from ipi.engine.properties import Properties, Trajectories, getkey  # noqa: PLC0415 - heavy

    found = []
    for name, field in simulation.output.extra:
        if name == "properties":
            keys = [getkey(what) for what in field.fetch().outlist]
            found += _unknown(f"{where}: <properties>", keys, Properties().property_dict)
        elif name == "trajectory":
            keys = [getkey(field.fetch().what)]
            found += _unknown(f"{where}: <trajectory>", keys, Trajectories().traj_dict)
    return found


def _unknown(where: str, names: list[str], known: Collection[str]) -> list[str]:
    """Names that are not among those that i-PI knows."""
    return [
        f"{where}: i-PI does not accept it: {name!r} is not among "
        + (f"{', '.join(known)}" if len(known) < 9 else "its names")
        + _or(difflib.get_close_matches(name, known, n=2))
        for name in names
        if name not in known
    ]


def _or(near: list[str]) -> str:
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _dimension(name: str, field: Any, node: Any) -> str:
    if name in ("velocities", "momenta") and node.attribs.get("mode", "").strip() == "thermal":
        return "temperature"
    if name == "cell" and node.attribs.get("mode", "manual").strip() in ("manual", "abc", "abcABC"):
        return "length"
    return str(getattr(field, "_dimension", "undefined"))


def _quantity(name: str, dimension: str, node: Any) -> list[Quantity]:
    from ipi.utils.units import unit_to_internal, unit_to_user  # noqa: PLC0415 - heavy

    text = "".join(value for tag, value in node.fields if tag == "_text").strip()
    first = text.strip("[] ").split(",")[0] if name == "cell" else text
    try:
        value = float(first)
    except ValueError:
        return []  # a list, or a file
    if value == 0.0 or (dimension == "temperature" and value < 0.0):
        return []  # zero is zero in all units, and a negative temperature is not one
    unit, usual = node.attribs.get("units", "").strip(), _SHOWN[dimension]
    inside = unit_to_internal(dimension, unit or "atomic_unit", value)
    return [
        Quantity(name, dimension, text, unit, float(unit_to_user(dimension, usual, inside)), usual)
    ]
