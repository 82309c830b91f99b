"""What an i-PI input file says, as far as mixserver needs to know, and what i-PI has printed.

Reads files; runs nothing. i-PI's own parser is the judge of an input: this only looks.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from mixserver.errors import ConfigError
from mixserver.record.report import columns


@dataclass(frozen=True, slots=True)
class Socket:
    """One <ffsocket>."""

    name: str
    mode: str
    """"unix", "inet" or "shm"."""
    address: str
    port: int
    parameters: str

    @property
    def as_upstream(self) -> str:
        """The same in the words of mix.toml."""
        if self.mode == "inet":
            return f"{self.address}:{self.port}"
        return f"unix:{self.address}"


@dataclass(frozen=True, slots=True)
class IpiInput:
    """What matters of an i-PI input."""

    file: Path
    sockets: tuple[Socket, ...]
    total_steps: int
    prefix: str
    """Of i-PI's output files."""
    structures: tuple[Path, ...]
    """Files of <initialize>, relative to the input's folder made absolute."""
    beads: int
    ensembles: tuple[str, ...]
    """Modes of <dynamics> ("nve", "nvt", "npt", ...) or of <motion> ("minimize", "neb", ...)."""
    properties: str
    """File name of the first <properties>, without the prefix; "" if there is none."""
    pbc_wrapped: bool
    """True if some <ffsocket> asks i-PI to wrap positions."""


def read_input(file: Path) -> IpiInput:
    """Read an i-PI input or RESTART.

    Raises:
        ConfigError: it cannot be read, is no XML, or has no <ffsocket>.
    """
    try:
        root = ET.parse(file).getroot()  # noqa: S314 - the user's own file
    except OSError as error:
        raise ConfigError(f"i-PI's input {file} cannot be read: {error.strerror}") from error
    except ET.ParseError as error:
        raise ConfigError(f"i-PI's input {file} is not valid XML: {error}") from error
    sockets = tuple(
        Socket(
            name=node.get("name", "").strip(),
            mode=node.get("mode", "inet").strip(),
            address=_text(node, "address", "localhost"),
            port=int(_text(node, "port", "65535")),
            parameters=_text(node, "parameters", ""),
        )
        for node in root.iter("ffsocket")
    )
    if not sockets:
        raise ConfigError(f"i-PI's input {file} has no <ffsocket>, so nobody would be asked")
    output = root.find("output")
    properties = root.find("output/properties")
    nodes = list(root.iter("initialize"))
    return IpiInput(
        file=file,
        sockets=sockets,
        total_steps=int(_text(root, "total_steps", "1000")),
        prefix=(output.get("prefix", "i-pi") if output is not None else "i-pi").strip(),
        structures=tuple(
            file.parent / (entry.text or "").strip()
            for node in nodes
            for entry in node.iter("file")
            if entry.get("mode", "xyz").strip() in {"xyz", "pdb", "ase", "chk"}
        ),
        beads=max((int(node.get("nbeads", "1")) for node in nodes), default=1),
        ensembles=tuple(_mode(motion) for motion in root.iter("motion")),
        properties=(properties.get("filename", "out").strip() if properties is not None else ""),
        pbc_wrapped=any(
            node.get("pbc", "False").strip().lower() == "true" for node in root.iter("ffsocket")
        ),
    )


def _text(node: ET.Element, tag: str, default: str) -> str:
    found = node.find(tag)
    return (found.text or "").strip() if found is not None else default


def _mode(motion: ET.Element) -> str:
    mode = motion.get("mode", "dynamics").strip()
    dynamics = motion.find("dynamics")
    if mode == "dynamics" and dynamics is not None:
        return dynamics.get("mode", "nve").strip()
    return mode


class PropertiesTail:
    """The last complete line of i-PI's properties file, read again and again while it grows."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._columns: dict[str, int] = {}

    def last(self) -> dict[str, float]:
        """Name -> value of the newest line; empty while there is none."""
        try:
            if not self._columns:
                with self._file.open(encoding="utf-8") as lines:
                    self._columns = columns([line for line in lines if line.startswith("#")])
            with self._file.open("rb") as handle:
                handle.seek(0, 2)
                handle.seek(max(0, handle.tell() - 8192))
                block = handle.read().decode("utf-8", "replace")
        except OSError:
            return {}
        complete = block[: block.rfind("\n") + 1].splitlines()
        for line in reversed(complete):
            if line.startswith("#") or not line.strip():
                continue
            fields = line.split()
            try:
                return {
                    name: float(fields[at])
                    for name, at in self._columns.items()
                    if at < len(fields)
                }
            except ValueError:
                return {}
        return {}
