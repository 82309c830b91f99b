"""What i-PI printed in a run and in the runs it goes on from, as one table.

After a restart i-PI writes no header, so names come from the <properties> of its RESTART, and their
widths from i-PI itself. What a run did beyond the step that the next one goes on from is left out.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Scalars
from mixserver.config import load_case
from mixserver.errors import ConfigError
from mixserver.record.recorder import COLUMN_FILE
from mixserver.record.runs import CONTINUED

WANTED: Final = ("step", "time", "conserved")
_UNITS: Final = {"time": "picosecond", "conserved": "electronvolt", "temperature": "kelvin"}
_KINDS: Final = {"time": "time", "conserved": "energy", "temperature": "temperature"}
_HEAD: Final = re.compile(r"#\s*(?:column|cols\.)\s+(\d+)(?:-\d+)?\s*-->\s*(\S+)")
_NAME: Final = re.compile(r"\s*(\w+)\s*(\([^)]*\))?\s*(?:\{([^}]*)\})?")


@dataclass(frozen=True, slots=True)
class Printed:
    """Rows of i-PI's properties."""

    columns: dict[str, Scalars]
    """(n,) step, time (ps), conserved (eV), temperature (K), as far as they were printed."""
    run: NDArray[np.intp]
    """(n,) which of the runs printed the row, counted from the oldest."""
    begun: tuple[int, ...]
    """Steps made already when each run began."""
    ended: tuple[int, ...]
    """The last step that each run printed, of those that were left out too."""

    @property
    def step(self) -> Scalars:
        """(n,) i-PI's steps, ascending."""
        return self.columns["step"]


def printed(runs: Sequence[Path], wanted: Iterable[str] = WANTED) -> Printed:
    """Join what i-PI printed in runs that go on from each other.

    Args:
        runs: their folders, oldest first.
        wanted: names of properties that must be there.

    Raises:
        ConfigError: a run has no file with all that is wanted, or one that cannot be read.
    """
    wanted = tuple(wanted)
    begun = tuple(begun_at(run) for run in runs)
    tables = [_table(run, wanted) for run in runs]
    ended = tuple(int(max(table["step"], default=0)) for table in tables)
    for at in range(len(tables) - 1):  # beyond there, the next run made those steps again
        kept = tables[at]["step"] <= begun[at + 1]
        tables[at] = {name: column[kept] for name, column in tables[at].items()}
    names = [name for name in tables[-1] if all(name in table for table in tables)]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in names}
    run = np.repeat(np.arange(len(runs)), [len(table["step"]) for table in tables])
    # i-PI that was started from a checkpoint in the same folder has appended the same steps again
    later = np.minimum.accumulate(columns["step"][::-1])[::-1]
    again = np.append(columns["step"][:-1] < later[1:], True) if len(later) else later > 0
    return Printed(
        {name: column[again] for name, column in columns.items()}, run[again], begun, ended
    )


def begun_at(run: Path) -> int:
    """Steps that were made already when a run began.

    Raises:
        ConfigError: its RESTART.in cannot be read.
    """
    if not (run / CONTINUED).exists():
        return 0
    try:
        return int(_parsed(run / CONTINUED).findtext("step") or "0")
    except ValueError as error:
        raise ConfigError(f"{run / CONTINUED} is no RESTART of i-PI: {error}") from error


def _table(run: Path, wanted: tuple[str, ...]) -> dict[str, Scalars]:
    """The columns of the first file of a run that has all that is wanted."""
    seen: list[str] = []
    for file, listed in _files(run):
        places = _header(file) or _places(listed)
        seen += [f"{file.name} ({', '.join(places) or 'without names'})"]
        if set(wanted) <= places.keys():
            return _read(file, {name: places[name] for name in places if name in _known(wanted)})
    what = f"there are {'; '.join(seen)}" if seen else "there is none"
    raise ConfigError(
        f"{run} has no properties file of i-PI with {', '.join(wanted)}: {what}. List them in "
        "<properties> of input.xml, as step, time{picosecond}, conserved{electronvolt}"
    )


def _known(wanted: tuple[str, ...]) -> set[str]:
    return {*wanted, *_UNITS}


def _files(run: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Files in which i-PI may have printed properties, with what its input lists for each."""
    listed: dict[Path, tuple[str, ...]] = {}
    source = run / CONTINUED
    if not source.exists() and (run / "mix.toml").exists():
        source = run / load_case(run).config.ipi.input
    if source.exists():
        root = _parsed(source)
        output = root.find("output")
        prefix = "i-pi" if output is None else output.get("prefix", "i-pi").strip()
        for node in root.iterfind("output/properties"):
            name = node.get("filename", "out").strip()
            words = re.split(r",(?![^(]*\))", (node.text or "").strip().strip("[]"))
            listed[run / f"{prefix}.{name}"] = tuple(word.strip() for word in words)
    for file in sorted(run.glob("*.out")):
        listed.setdefault(file, ())
    return [(f, names) for f, names in listed.items() if f.is_file() and f.name != COLUMN_FILE]


def _parsed(file: Path) -> ET.Element:
    try:
        return ET.parse(file).getroot()  # noqa: S314 - the user's own file
    except (OSError, ET.ParseError) as error:
        raise ConfigError(f"{file} cannot be read as i-PI's input: {error}") from error


def _header(file: Path) -> dict[str, tuple[int, str]]:
    """Name -> (column from 0, unit) from the header, where i-PI wrote one."""
    found: dict[str, tuple[int, str]] = {}
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.startswith("#"):
                break
            head = _HEAD.match(line)
            if head:
                _note(found, head[2], int(head[1]) - 1)
    return found


def _places(listed: tuple[str, ...]) -> dict[str, tuple[int, str]]:
    """The same from what an input lists; i-PI knows how many columns each takes."""
    if not any(listed):
        return {}
    from ipi.engine.properties import Properties  # noqa: PLC0415 - takes seconds

    known = Properties().property_dict
    found: dict[str, tuple[int, str]] = {}
    at = 0
    for what in listed:
        name = _NAME.match(what)
        size = known.get(name[1], {}).get("size", 1) if name else None
        if not isinstance(size, int):
            break  # its width is unknown, so the places of all after it are
        _note(found, what, at)
        at += size
    return found


def _note(found: dict[str, tuple[int, str]], what: str, column: int) -> None:
    name = _NAME.match(what)
    if name and not name[2]:  # with arguments it is of some atoms or of one bead
        found.setdefault(name[1], (column, name[3] or ""))


def _read(file: Path, places: dict[str, tuple[int, str]]) -> dict[str, Scalars]:
    """Columns of a file in our units; a last line that was cut short is passed over."""
    most = max(column for column, _ in places.values())
    rows: list[list[float]] = []
    lines = [
        line
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    width = len(lines[0].split()) if lines else 0
    for number, line in enumerate(lines, 1):
        fields = line.split()
        try:
            if len(fields) != width or width <= most:
                raise ValueError(f"{len(fields)} columns")
            rows.append([float(fields[column]) for column, _ in places.values()])
        except ValueError as error:
            if number == len(lines):
                break
            raise ConfigError(
                f"{file}: line {number} of its values must hold {max(width, most + 1)} numbers, "
                f"but {error}; the file was changed or is damaged"
            ) from error
    values = np.array(rows, dtype=np.float64).reshape(-1, len(places))
    return {
        name: values[:, at] * _factor(name, unit)
        for at, (name, (_, unit)) in enumerate(places.items())
    }


def _factor(name: str, unit: str) -> float:
    """From the unit i-PI printed a property in to ours."""
    ours = _UNITS.get(name)
    if ours is None or unit == ours:
        return 1.0
    from ipi.utils.units import unit_to_internal, unit_to_user  # noqa: PLC0415 - takes a while

    kind = _KINDS[name]
    return float(unit_to_user(kind, ours, unit_to_internal(kind, unit, 1.0)))
