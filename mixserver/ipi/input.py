"""Reading of an i-PI input or RESTART (XML): sockets, systems, motions and outputs as values.

Only reads; i-PI's own parser validates an input (see `parse` and `values`).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mixserver.core.errors import ConfigError
from mixserver.ipi.parse import substitute_labels
from mixserver.ipi.text import element_text, list_entries, parse_float, parse_int, split_commas

_SOCKETS: Final = frozenset({"ffsocket", "ffcavphsocket"})


@dataclass(frozen=True, slots=True)
class Socket:
    """One <ffsocket> or <ffcavphsocket>."""

    name: str
    mode: str
    """"unix", "inet" or "shm"."""
    address: str
    port: int
    batch_size: int = 1
    """How many requests i-PI sends at once."""
    active: tuple[int, ...] = ()
    """The atoms i-PI sends, if not all: <activelist>."""
    timeout_s: float = 0.0
    """Seconds after which i-PI gives up a request and repeats it; 0 is never."""
    cavity: bool = False
    """True of <ffcavphsocket>, which sends the atoms without its photon."""

    @property
    def as_upstream(self) -> str:
        """The address as mix.toml has it."""
        if self.mode == "inet":
            return f"{self.address}:{self.port}"
        return f"unix:{self.address}"


@dataclass(frozen=True, slots=True)
class Source:
    """A file from which <initialize> takes atoms."""

    file: Path
    mode: str
    """"xyz", "pdb", "ase" or "chk"."""
    units: str
    cell_units: str
    tag: str = "file"
    """"file", or "positions" where it names positions alone."""


@dataclass(frozen=True, slots=True)
class Motion:
    """A <motion>: how atoms move."""

    mode: str
    """"dynamics", "minimize", "neb", "multi", ..."""
    ensemble: str
    """Mode of its <dynamics>, "nve", "nvt", "npt", ...; of another motion its mode again."""
    thermostat: str
    """Mode of its <dynamics>' <thermostat>; "" if there is none."""
    names: tuple[str, ...] = ()
    """Labels of the atoms that are exchanged, of mode "atomswap" or "alchemy"."""


@dataclass(frozen=True, slots=True)
class System:
    """One <system>: atoms that move, with a number of beads."""

    sources: tuple[Source, ...]
    beads: int
    """Beads, or images of a path."""
    forces: tuple[tuple[str, int], ...]
    """(forcefield, beads on which it is evaluated) of each <force>."""
    weights: tuple[float, ...]
    """Weight of each <force> in the potential, summed over all levels of time steps."""


@dataclass(frozen=True, slots=True)
class IpiInput:
    """The parts of an i-PI input that mixserver needs."""

    file: Path
    sockets: tuple[Socket, ...]
    total_steps: int
    prefix: str
    """Of i-PI's output files."""
    systems: tuple[System, ...]
    """With those made from a <system_template>, in i-PI's order."""
    forcefields: dict[str, frozenset[str]]
    """Of each forcefield, the names of the <ffsocket>s it is or is made of."""
    motions: tuple[Motion, ...]
    """Nested ones too."""
    smotions: tuple[str, ...]
    """Modes of <smotion>s (moves between systems), nested ones too."""
    properties: str
    """File name of the first <properties>, without the prefix; "" if there is none."""
    property_names: tuple[str, ...]
    """What the first <properties> lists, with units; a continued run's table has no header."""
    step: int
    """Steps that were made already, in a RESTART."""
    pbc_wrapped: bool
    """True if some <ffsocket> makes i-PI wrap positions."""

    @property
    def ensembles(self) -> tuple[str, ...]:
        """Modes of <dynamics> ("nve", "nvt", "npt", ...) or of <motion> ("minimize", "neb")."""
        return tuple(motion.ensemble for motion in self.motions)

    @property
    def beads(self) -> int:
        """The most beads of any system."""
        return max((system.beads for system in self.systems), default=1)


def read_input(file: Path) -> IpiInput:
    """Read an i-PI input or RESTART.

    Raises:
        ConfigError: it cannot be read, is not XML, has no <ffsocket>, or a value that must be a
            number is not one.
    """
    root = _parse(file)
    root[:] = [one for node in root for one in _expanded(node, file)]
    sockets = tuple(_socket(node, file) for node in root.iter() if node.tag in _SOCKETS)
    if not sockets:
        raise ConfigError(
            f"i-PI's input {file} has no <ffsocket>, so it would request no forces from a driver"
        )
    output = root.find("output")
    properties = root.find("output/properties")
    return IpiInput(
        file=file,
        sockets=sockets,
        total_steps=parse_int(element_text(root, "total_steps", "1000"), "<total_steps>", file),
        prefix=(output.get("prefix", "i-pi") if output is not None else "i-pi").strip(),
        systems=tuple(_system(node, file) for node in root.findall("system")),
        forcefields={
            node.get("name", "").strip(): frozenset(
                socket.get("name", "").strip() for socket in node.iter() if socket.tag in _SOCKETS
            )
            for node in root
            if node.tag.startswith("ff")
        },
        motions=tuple(_motion(motion) for motion in root.iter("motion")),
        smotions=tuple(node.get("mode", "dummy").strip() for node in root.iter("smotion")),
        properties=(properties.get("filename", "out").strip() if properties is not None else ""),
        property_names=_names(properties.text or "") if properties is not None else (),
        step=parse_int(element_text(root, "step", "0"), "<step>", file),
        pbc_wrapped=any(
            node.get("pbc", "False").strip().lower() == "true" for node in root.iter("ffsocket")
        ),
    )


def _names(listed: str) -> tuple[str, ...]:
    """Entries of "[ step, time{picosecond}, temperature(O), ... ]"."""
    words = re.split(r",(?![^(]*\))", listed.strip().strip("[]"))
    return tuple(word.strip() for word in words if word.strip())


def read_step(file: Path) -> int:
    """The number of steps that an i-PI RESTART or checkpoint has made.

    Raises:
        ConfigError: the file cannot be read, or is cut short.
    """
    return parse_int(element_text(_parse(file), "step", "0"), "<step>", file)


def read_property_files(file: Path) -> dict[str, tuple[str, ...]]:
    """File name of each <properties> of an input or RESTART -> the properties it lists.

    Raises:
        ConfigError: the input cannot be read or is not XML.
    """
    root = _parse(file)
    output = root.find("output")
    prefix = "i-pi" if output is None else output.get("prefix", "i-pi").strip()
    found = {}
    for node in root.iterfind("output/properties"):
        name = f"{prefix}.{node.get('filename', 'out').strip()}"
        found[name] = _names(node.text or "")
    return found


def _parse(file: Path) -> ET.Element:
    try:
        return ET.parse(file).getroot()  # noqa: S314 - the user's own file
    except OSError as error:
        raise ConfigError(f"i-PI's input {file} cannot be read: {error.strerror}") from error
    except ET.ParseError as error:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        said = lines[error.position[0] - 1 :][:1]
        line = f"\n  {said[0].strip()}\nEvery <tag> needs its </tag>, in order" if said else ""
        raise ConfigError(f"i-PI's input {file} is not valid XML: {error}{line}") from error


def _expanded(node: ET.Element, file: Path) -> list[ET.Element]:
    """The systems of a <system_template>, as i-PI makes them; any other node itself."""
    if node.tag != "system_template":
        return [node]
    text = "".join(ET.tostring(child, encoding="unicode") for child in node.iterfind("template/*"))
    labels = split_commas(element_text(node, "labels", ""))
    made = []
    for instance in node.findall("instance"):
        filled = substitute_labels(text, labels, split_commas(instance.text or ""))
        try:
            made.append(ET.fromstring(filled))  # noqa: S314 - the user's own file
        except ET.ParseError as error:
            raise ConfigError(
                f"{file}: an <instance> of the <system_template> is not valid XML: {error}"
            ) from error
    return made


def _socket(node: ET.Element, file: Path) -> Socket:
    active = list_entries(element_text(node, "activelist", ""))
    atoms = tuple(parse_int(atom, "<activelist>", file) for atom in active)
    return Socket(
        name=node.get("name", "").strip(),
        mode=node.get("mode", "inet").strip(),
        address=element_text(node, "address", "localhost"),
        port=parse_int(element_text(node, "port", "65535"), "<port>", file),
        batch_size=parse_int(element_text(node, "batch_size", "1"), "<batch_size>", file),
        active=() if atoms[:1] == (-1,) else atoms,  # [-1] is all, i-PI's default
        cavity=node.tag == "ffcavphsocket",
        timeout_s=parse_float(element_text(node, "timeout", "0"), "<timeout>", file),
    )


def _system(node: ET.Element, file: Path) -> System:
    starts = list(node.iter("initialize"))
    counted = [*starts, *node.findall("beads")]  # a RESTART has <beads> instead of <initialize>
    beads = max(
        (parse_int(n.get("nbeads", "1"), f"{n.tag} nbeads", file) for n in counted), default=1
    )
    forces, weights = [], []
    for force in node.findall("forces/force"):
        own = parse_int(force.get("nbeads", "-1"), "force nbeads", file)
        forces.append((force.get("forcefield", "").strip(), own if own > 0 else beads))
        levels = list_entries(element_text(force, "mts_weights", "1.0"))
        total = sum(parse_float(level, "<mts_weights>", file) for level in levels)
        weights.append(parse_float(force.get("weight", "1.0"), "force weight", file) * total)
    return System(
        sources=tuple(
            Source(
                file.parent / (entry.text or "").strip(),
                entry.get("mode", "chk").strip(),
                entry.get("units", "automatic").strip(),
                entry.get("cell_units", "automatic").strip(),
                entry.tag,
            )
            for start in starts
            for entry in start
            if entry.tag == "file"
            or (entry.tag == "positions" and entry.get("mode", "chk").strip() != "manual")
        ),
        beads=beads,
        forces=tuple(forces),
        weights=tuple(weights),
    )


def _motion(node: ET.Element) -> Motion:
    mode = node.get("mode", "dynamics").strip()
    dynamics = node.find("dynamics")
    if mode != "dynamics" or dynamics is None:
        return Motion(mode, mode, "", tuple(split_commas(element_text(node, f"{mode}/names", ""))))
    bath = dynamics.find("thermostat")
    return Motion(
        mode,
        dynamics.get("mode", "nve").strip(),
        bath.get("mode", "").strip() if bath is not None else "",
    )
