"""An i-PI input as i-PI's own parser understands it: its complaints, and units that it assumes.

i-PI prints, and ends the program where it is lost; here both become a ConfigError. Nothing is
started: no socket, no output file, no force field.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from mixserver.errors import ConfigError

_NAMED: Final = re.compile(r"^(Tag|Attribute) name '([^']*)' is not a recognized .* '([^']*)'")
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
    """As written; "" if there is none, which i-PI takes for atomic units."""
    value: float
    """In `usual`."""
    usual: str
    """The unit that people use, by i-PI's name."""

    @property
    def shown(self) -> str:
        """What i-PI takes it for: "0.121 femtosecond"."""
        return f"{self.value:.3g} {self.usual}"


def parsed(file: Path) -> Any:
    """An i-PI input or RESTART as i-PI's own ``InputSimulation``.

    Raises:
        ConfigError: i-PI would refuse it; its complaint, and what may have been meant.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise ConfigError(f"i-PI's input {file} cannot be read: {error.strerror}") from error
    return _parsed(os.fspath(file), status.st_mtime_ns, status.st_size)[0]


def quantities(file: Path) -> tuple[Quantity, ...]:
    """Numbers of an input that have a dimension, each once; zeros and lists are left out.

    A RESTART is passed over: i-PI itself wrote it, in atomic units throughout.

    Raises:
        ConfigError: as `parsed`.
    """
    status = file.stat()
    simulation, tree = _parsed(os.fspath(file), status.st_mtime_ns, status.st_size)
    found: list[Quantity] = []
    _collect(simulation, tree, found)
    for name, system in simulation.extra:
        if name == "system_template":
            for node, one in expanded(system):
                _collect(one, node, found)
    return tuple(dict.fromkeys(found))


def expanded(template: Any) -> Iterator[tuple[Any, Any]]:
    """The systems that a <system_template> stands for, by i-PI's own rule of substitution.

    Yields:
        The XML and i-PI's ``InputSystem`` of each <instance>.

    Raises:
        ConfigError: an <instance> has another length than <labels>, or what comes of it is no
            system.
    """
    from ipi.inputs.system import InputSystem  # noqa: PLC0415 - heavy
    from ipi.utils.io.inputs.io_xml import xml_parse_string  # noqa: PLC0415

    text, labels = template.template.fetch(), template.labels.fetch()
    for name, instance in template.extra:
        if name != "instance":
            continue
        with spoken("a <system_template>"):
            node = xml_parse_string(substituted(text, labels, instance.fetch())).fields[0][1]
            system = InputSystem()
            system.parse(node)
        yield node, system


def substituted(text: str, labels: Any, values: Any) -> str:
    """The text of a template with its labels replaced, as i-PI does it.

    Raises:
        ConfigError: not as many values as labels.
    """
    if len(labels) != len(values):
        raise ConfigError(
            f"a <system_template> has {len(labels)} <labels> ({', '.join(labels)}) but an "
            f"<instance> of {len(values)} ({', '.join(values)}); give one value for each label"
        )
    for label, value in sorted(zip(labels, values, strict=True), reverse=True):
        text = text.replace(label, value)
    return text


@contextlib.contextmanager
def spoken(what: str) -> Iterator[None]:
    """Silence i-PI, and turn whatever it raises into a ConfigError about `what`.

    Raises:
        ConfigError: i-PI raised anything, or wanted to end the program.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # i-PI leaves files for the interpreter to close
            yield
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # i-PI raises anything, and exits
        words = str(error) if isinstance(error, Exception) else ""
        printed = said.getvalue().strip().splitlines()
        words = words or (printed[-1] if printed else type(error).__name__)
        if isinstance(error, KeyError):
            words = f"{words} is not known to it"
        words = f"{' '.join(words.split())}{_meant(error, words)}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traceback.clear_frames(error.__traceback__)  # closes those files
        raise ConfigError(f"{what}: i-PI does not accept it: {words}") from error


@lru_cache(maxsize=4)
def _parsed(file: str, changed: int, size: int) -> tuple[Any, Any]:
    from ipi.inputs.simulation import InputSimulation  # noqa: PLC0415 - heavy
    from ipi.utils.io.inputs.io_xml import xml_parse_file  # noqa: PLC0415

    with spoken(f"i-PI's input {file}"):
        with open(file, encoding="utf-8") as handle:
            tree = xml_parse_file(handle).fields[0][1]
        if tree.name != "simulation":
            raise ConfigError(
                f"i-PI's input {file} begins with <{tree.name}>; i-PI wants <simulation>"
            )
        simulation = InputSimulation()
        simulation.parse(tree)
    return simulation, tree


def _meant(error: BaseException, words: str) -> str:
    """What of i-PI's own names is near the one that it does not know."""
    found = _NAMED.match(words)
    parser = _parser(error.__traceback__)
    if found is None or parser is None:
        return ""
    kind, name, _ = found.groups()
    known = (
        set(parser.attribs) if kind == "Attribute" else {*parser.instancefields, *parser.dynamic}
    )
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    shown = [f"<{n}>" if kind == "Tag" else n for n in near or sorted(known)]
    if not shown:
        return ""
    return f"; did you mean {' or '.join(shown)}?" if near else f"; it knows {', '.join(shown)}"


def _parser(trace: TracebackType | None) -> Any:
    """The innermost of i-PI's objects that was parsing when it raised."""
    found = None
    while trace is not None:
        one = trace.tb_frame.f_locals.get("self")
        if hasattr(one, "instancefields") and hasattr(one, "attribs"):
            found = one
        trace = trace.tb_next
    return found


def _collect(parser: Any, node: Any, found: list[Quantity]) -> None:
    """Collect what `node` and the tags inside it say that has a dimension."""
    if parser.__class__.__name__ == "InputSystem" and any(tag == "beads" for tag, _ in node.fields):
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
        dimension = _dimension(name, field, child)
        if dimension in _SHOWN:
            _note(name, dimension, child, found)
        _collect(field, child, found)


def _dimension(name: str, field: Any, node: Any) -> str:
    if name in ("velocities", "momenta") and node.attribs.get("mode", "").strip() == "thermal":
        return "temperature"
    return str(getattr(field, "_dimension", "undefined"))


def _note(name: str, dimension: str, node: Any, found: list[Quantity]) -> None:
    from ipi.utils.units import unit_to_internal, unit_to_user  # noqa: PLC0415 - heavy

    text = "".join(value for tag, value in node.fields if tag == "_text").strip()
    try:
        value = float(text)
    except ValueError:
        return  # a list, or a file
    if value == 0.0 or (dimension == "temperature" and value < 0.0):
        return  # zero is zero in all units, and a negative temperature is none
    unit, usual = node.attribs.get("units", "").strip(), _SHOWN[dimension]
    value = unit_to_user(
        dimension, usual, unit_to_internal(dimension, unit or "atomic_unit", value)
    )
    found.append(Quantity(name, dimension, text, unit, float(value), usual))
