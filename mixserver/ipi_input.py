"""What an i-PI input file says, as far as mixserver needs to know.

Reads files; runs nothing. The judge of an input is i-PI's own parser (`ipi_parse`); this looks.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mixserver.errors import ConfigError
from mixserver.ipi_parse import substituted
from mixserver.ipi_text import commas, entries, real, text_of, whole

_SOCKETS: Final = frozenset({"ffsocket", "ffcavphsocket"})


@dataclass(frozen=True, slots=True)
class Socket:
    """One <ffsocket> or <ffcavphsocket>."""

    name: str
    mode: str
    """"unix", "inet" or "shm"."""
    address: str
    port: int
    parameters: str
    batch_size: int = 1
    """How many requests i-PI sends at once."""
    active: tuple[int, ...] = ()
    """The atoms i-PI sends, if not all: <activelist>."""
    timeout_s: float = 0.0
    """i-PI gives up a request that is not answered within this, and asks again; 0 is never."""
    cavity: bool = False
    """True of <ffcavphsocket>, which sends the atoms without its photon."""

    @property
    def as_upstream(self) -> str:
        """The same in the words of mix.toml."""
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
    labels: tuple[str, ...]
    """Of the atoms, where the input itself names them, as a RESTART does."""
    beads: int
    """Beads, or images of a path."""
    forces: tuple[tuple[str, int], ...]
    """(forcefield, beads on which it is evaluated) of each <force>."""
    weights: tuple[float, ...]
    """What each <force> counts in the potential: its weight, over all levels of time steps."""


@dataclass(frozen=True, slots=True)
class IpiInput:
    """What matters of an i-PI input."""

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
    """Those inside others too."""
    smotions: tuple[str, ...]
    """Modes of <smotion>s, those inside others too: what is done between the systems."""
    properties: str
    """File name of the first <properties>, without the prefix; "" if there is none."""
    columns: tuple[str, ...]
    """What the first <properties> lists; i-PI does not say it again in what it continues."""
    step: int
    """Steps that were made already, in a RESTART."""
    pbc_wrapped: bool
    """True if some <ffsocket> asks i-PI to wrap positions."""

    @property
    def structures(self) -> tuple[Path, ...]:
        """Files of <initialize>, relative to the input's folder made absolute."""
        return tuple(source.file for system in self.systems for source in system.sources)

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
        ConfigError: it cannot be read, is no XML, has no <ffsocket>, or something else where a
            number belongs.
    """
    root = _parse(file)
    root[:] = [one for node in root for one in _expanded(node, file)]
    sockets = tuple(_socket(node, file) for node in root.iter() if node.tag in _SOCKETS)
    if not sockets:
        raise ConfigError(
            f"i-PI's input {file} has no <ffsocket>, so it would ask no driver for forces"
        )
    output = root.find("output")
    properties = root.find("output/properties")
    return IpiInput(
        file=file,
        sockets=sockets,
        total_steps=whole(text_of(root, "total_steps", "1000"), "<total_steps>", file),
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
        columns=_names(properties.text or "") if properties is not None else (),
        step=whole(text_of(root, "step", "0"), "<step>", file),
        pbc_wrapped=any(
            node.get("pbc", "False").strip().lower() == "true" for node in root.iter("ffsocket")
        ),
    )


def _names(listed: str) -> tuple[str, ...]:
    """Names in "[ step, time{picosecond}, ... ]", without units."""
    words = listed.strip().strip("[]").split(",")
    return tuple(word.split("{")[0].split("(")[0].strip() for word in words if word.strip())


def read_labels(file: Path) -> tuple[str, ...]:
    """The atoms' labels in an i-PI checkpoint, those of its first system.

    Raises:
        ConfigError: it cannot be read or is no XML.
    """
    return next((labels for node in _parse(file).iter("system") if (labels := _labels(node))), ())


def _parse(file: Path) -> ET.Element:
    try:
        return ET.parse(file).getroot()  # noqa: S314 - the user's own file
    except OSError as error:
        raise ConfigError(f"i-PI's input {file} cannot be read: {error.strerror}") from error
    except ET.ParseError as error:
        raise ConfigError(f"i-PI's input {file} is not valid XML: {error}") from error


def _expanded(node: ET.Element, file: Path) -> list[ET.Element]:
    """The systems of a <system_template>, as i-PI makes them; any other node itself."""
    if node.tag != "system_template":
        return [node]
    text = "".join(ET.tostring(child, encoding="unicode") for child in node.iterfind("template/*"))
    labels = commas(text_of(node, "labels", ""))
    made = []
    for instance in node.findall("instance"):
        filled = substituted(text, labels, commas(instance.text or ""))
        try:
            made.append(ET.fromstring(filled))  # noqa: S314 - the user's own file
        except ET.ParseError as error:
            raise ConfigError(
                f"{file}: an <instance> of the <system_template> is not valid XML: {error}"
            ) from error
    return made


def _socket(node: ET.Element, file: Path) -> Socket:
    active = entries(text_of(node, "activelist", ""))
    atoms = tuple(whole(atom, "<activelist>", file) for atom in active)
    return Socket(
        name=node.get("name", "").strip(),
        mode=node.get("mode", "inet").strip(),
        address=text_of(node, "address", "localhost"),
        port=whole(text_of(node, "port", "65535"), "<port>", file),
        parameters=text_of(node, "parameters", ""),
        batch_size=whole(text_of(node, "batch_size", "1"), "<batch_size>", file),
        active=() if atoms[:1] == (-1,) else atoms,  # [-1] is all, i-PI's default
        cavity=node.tag == "ffcavphsocket",
        timeout_s=real(text_of(node, "timeout", "0"), "<timeout>", file),
    )


def _system(node: ET.Element, file: Path) -> System:
    starts = list(node.iter("initialize"))
    counted = [*starts, *node.findall("beads")]  # a RESTART has <beads> instead of <initialize>
    beads = max((whole(n.get("nbeads", "1"), f"{n.tag} nbeads", file) for n in counted), default=1)
    forces, weights = [], []
    for force in node.findall("forces/force"):
        own = whole(force.get("nbeads", "-1"), "force nbeads", file)
        forces.append((force.get("forcefield", "").strip(), own if own > 0 else beads))
        levels = entries(text_of(force, "mts_weights", "1.0"))
        total = sum(real(level, "<mts_weights>", file) for level in levels)
        weights.append(real(force.get("weight", "1.0"), "force weight", file) * total)
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
        labels=_labels(node),
        beads=beads,
        forces=tuple(forces),
        weights=tuple(weights),
    )


def _labels(system: ET.Element) -> tuple[str, ...]:
    names = system.find("beads/names")
    return entries(names.text or "") if names is not None else ()


def _motion(node: ET.Element) -> Motion:
    mode = node.get("mode", "dynamics").strip()
    dynamics = node.find("dynamics")
    if mode != "dynamics" or dynamics is None:
        return Motion(mode, mode, "", tuple(commas(text_of(node, f"{mode}/names", ""))))
    bath = dynamics.find("thermostat")
    return Motion(
        mode,
        dynamics.get("mode", "nve").strip(),
        bath.get("mode", "").strip() if bath is not None else "",
    )
