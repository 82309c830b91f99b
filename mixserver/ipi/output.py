"""i-PI's output files: tables of properties, their newest line while they grow, and trajectories.

Files in the same format that mixserver writes itself are read here too. i-PI's own readers
(`ipi.scripting.read_output`, `read_trajectory`) were tried with i-PI 3.3.1 and are not used: both
raise on a last line or frame that was cut short, `read_output` returns nothing for a file without a
header, which is what a continued run writes, and takes 1.4 s for 100 000 lines (here 0.3 s);
`read_trajectory` changes the printed positions by a relative 1.4e-8, by converting units to and
fro. Importing them takes 0.6 s, which a command that only reads files need not pay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.ipi_import import import_ipi
from mixserver.core.units import BOHR

_SINGLE: Final = frozenset(
    {"step", "time", "conserved", "temperature", "potential", "kinetic_md", "kinetic_cv", "volume"}
    | {"density", "pressure_md", "pressure_cv", "ensemble_temperature", "ensemble_pressure"}
)
"""Properties of i-PI that take one column each."""
_HEADER: Final = re.compile(r"#\s*(?:column|cols\.)\s+(\d+)(?:-\d+)?\s*-->\s*(\S+)")
_NAME: Final = re.compile(r"\s*(\w+)\s*(\([^)]*\))?\s*(?:\{([^}]*)\})?")
OUR_UNITS: Final = {
    "time": ("time", "picosecond"),
    "conserved": ("energy", "electronvolt"),
    "potential": ("energy", "electronvolt"),
    "temperature": ("temperature", "kelvin"),
}
"""Property -> its dimension, and the unit in which it is returned."""
_TAIL: Final = 8192
"""Bytes at the end of a file in which the newest line is looked for."""
_MOST_NEW: Final = 1 << 22
"""Bytes that are read at once from a file that grows."""
_STEP: Final = re.compile(r"Step:\s*(\d+)")
_CELL: Final = re.compile(r"CELL\(abcABC\):((?:\s+[-+.\deE]+){6})")
_IN_ANGSTROM: Final = re.compile(r"positions\{angstrom\}")


class Column(NamedTuple):
    """Where a property is in a table."""

    at: int
    """Column, counted from 0; the first one of a property with several."""
    unit: str = ""
    """As i-PI names it; "" for atomic units or none."""


def header_columns(lines: Iterable[str]) -> dict[str, Column]:
    """The columns that the header at the beginning of a table names, by property."""
    found: dict[str, Column] = {}
    for line in lines:
        if not line.startswith("#"):
            break
        if match := _HEADER.match(line):
            _add(found, match[2], int(match[1]) - 1)
    return found


def listed_columns(listed: Sequence[str]) -> dict[str, Column]:
    """The columns of a table without a header, from what <properties> lists.

    i-PI defines how many columns each property takes; importing it takes seconds.
    """
    if not any(listed):
        return {}
    import_ipi()
    from ipi.engine.properties import Properties  # noqa: PLC0415 - takes seconds

    known = Properties().property_dict
    found: dict[str, Column] = {}
    at = 0
    for entry in listed:
        name = _NAME.match(entry)
        size = known.get(name[1], {}).get("size", 1) if name else None
        if not isinstance(size, int):
            break  # of unknown width, so that all columns after it are unknown
        _add(found, entry, at)
        at += size
    return found


def to_our_unit(name: str, column: Column) -> float:
    """The factor from the unit in which i-PI wrote a property to ours; 1 for other properties."""
    dimension, ours = OUR_UNITS.get(name, ("", column.unit))
    if column.unit == ours:
        return 1.0
    import_ipi()
    from ipi.utils.units import unit_to_internal, unit_to_user  # noqa: PLC0415 - takes a while

    return float(unit_to_user(dimension, ours, unit_to_internal(dimension, column.unit, 1.0)))


def _add(found: dict[str, Column], entry: str, at: int) -> None:
    name = _NAME.match(entry)
    if name and not name[2]:  # one with arguments is of some atoms or of one bead
        found.setdefault(name[1], Column(at, name[3] or ""))


def read_columns(file: Path, columns: Mapping[str, Column] | None = None) -> dict[str, Scalars]:
    """Columns of a table as arrays, in the units of the file.

    A last line without its end is still being written, or was cut short when the writer was
    killed; it is left out.

    Args:
        file: the table.
        columns: those to read, by name; None for all that its header names.

    Raises:
        ConfigError: the file cannot be read, or a line has too few or other values.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    complete = text[: text.rfind("\n") + 1].splitlines()
    if columns is None:
        columns = header_columns(complete)
    lines = [line for line in complete if line.strip() and not line.startswith("#")]
    places = [column.at for column in columns.values()]
    width = max(len(lines[0].split()) if lines else 0, max(places, default=-1) + 1)
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        try:
            if len(fields) != width:
                raise ValueError(f"{len(fields)} columns")
            rows.append([float(fields[at]) for at in places])
        except ValueError as error:
            if number == len(lines):
                break  # two writers, or a file system that was full
            raise ConfigError(
                f"{file}: line {number} of its values must hold {width} numbers, but {error}; the "
                "file was changed or is damaged"
            ) from error
    values = np.array(rows, dtype=np.float64).reshape(len(rows), len(places))
    return {name: values[:, at] for at, name in enumerate(columns)}


class PropertiesTail:
    """The last complete line of i-PI's properties file, read repeatedly while the file grows.

    Args:
        file: the table; it need not exist yet.
        names: what <properties> lists, in case it has no header.
    """

    def __init__(self, file: Path, names: Sequence[str] = ()) -> None:
        self._file = file
        self._columns: dict[str, Column] = {}
        self._listed: dict[str, Column] = {}
        for entry in names:
            name = _NAME.match(entry)
            if name is None or name[2] or name[1] not in _SINGLE:
                break  # it may take several columns
            self._listed[name[1]] = Column(len(self._listed), name[3] or "")
        self._factors: dict[str, float] = {}
        self._read = 0
        """Bytes of the file that `new` has read."""

    def last(self) -> dict[str, float]:
        """Name -> value of the newest line, see `OUR_UNITS`; empty while there is none."""
        try:
            self._find_columns()
            with self._file.open("rb") as handle:
                handle.seek(0, 2)
                handle.seek(max(0, handle.tell() - _TAIL))
                block = handle.read().decode("utf-8", "replace")
        except OSError:
            return {}
        complete = block[: block.rfind("\n") + 1].splitlines()
        for line in reversed(complete):
            if not line.startswith("#") and line.strip():
                return self._values(line)
        return {}

    def new(self) -> list[dict[str, float]]:
        """The values of all lines that were completed since it was called last, in order."""
        try:
            self._find_columns()
            with self._file.open("rb") as handle:
                handle.seek(self._read)
                block = handle.read(_MOST_NEW)
        except OSError:
            return []
        end = block.rfind(b"\n") + 1
        self._read += end
        lines = block[:end].decode("utf-8", "replace").splitlines()
        found = [self._values(line) for line in lines if line.strip() and not line.startswith("#")]
        return [values for values in found if values]

    def _find_columns(self) -> None:
        """Read the header, once there is one.

        Raises:
            OSError: the file cannot be read.
        """
        if self._columns:
            return
        header: list[str] = []
        with self._file.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    return  # i-PI is still writing it
                if line.strip() and not line.startswith("#"):
                    break
                header.append(line)
            else:
                return  # the header may not be whole before the first line of numbers
        self._columns = header_columns(header) or self._listed
        self._factors = {name: to_our_unit(name, c) for name, c in self._columns.items()}

    def _values(self, line: str) -> dict[str, float]:
        fields = line.split()
        try:
            return {
                name: float(fields[column.at]) * self._factors[name]
                for name, column in self._columns.items()
                if column.at < len(fields)
            }
        except ValueError:
            return {}


def read_positions(file: Path, atoms: int) -> Iterator[tuple[int, Vectors]]:
    """Step and (N, 3) positions (Å, unwrapped, 6 digits) of the complete frames of an i-PI xyz.

    Args:
        file: a <trajectory> of positions{angstrom}.
        atoms: how many atoms each frame has.

    Raises:
        ConfigError: the file is not such a trajectory.
    """
    for step, positions, _ in read_frames(file, atoms):
        yield step, positions


def read_frames(file: Path, atoms: int) -> Iterator[tuple[int, Vectors, Matrix]]:
    """The same with the (3, 3) cell (Å, rows) of each frame.

    Raises:
        ConfigError: as `read_positions`.
    """
    yield from parse_frames(file.read_text(encoding="utf-8"), atoms, file)


def parse_frames(text: str, atoms: int, file: Path) -> Iterator[tuple[int, Vectors, Matrix]]:
    """The complete frames of a text, as `read_frames` has them.

    Args:
        text: the trajectory, or a part of it that begins with a frame.
        atoms: how many atoms each frame has.
        file: where it comes from, for messages.

    Raises:
        ConfigError: as `read_positions`.
    """
    lines = text[: text.rfind("\n") + 1].splitlines()
    for at in range(0, len(lines) - atoms - 1, atoms + 2):
        comment = lines[at + 1]
        step, cell = _STEP.search(comment), _CELL.search(comment)
        try:
            if int(lines[at]) != atoms or step is None or not _IN_ANGSTROM.search(comment):
                raise ValueError(f"{lines[at]!r}, {comment!r}")
            rows = [line.split()[1:4] for line in lines[at + 2 : at + 2 + atoms]]
            positions = np.array(rows, dtype=np.float64).reshape(atoms, 3)
            numbers = [float(word) for word in cell[1].split()[:6]] if cell else [0.0] * 6
        except ValueError as error:
            raise ConfigError(
                f"{file} is not a trajectory of {atoms} atoms as i-PI writes it, near line "
                f"{at + 1} ({error}); delete its folder to have it made again"
            ) from error
        yield int(step[1]), positions, _cell(numbers, "cell{angstrom}" in comment)


def _cell(numbers: Sequence[float], in_angstrom: bool) -> Matrix:
    """The cell (3, 3) Å of lengths and angles: a along x, b in the xy plane, as i-PI has it."""
    unit = 1.0 if in_angstrom else BOHR
    a, b, c = (unit * length for length in numbers[:3])
    alpha, beta, gamma = np.radians(numbers[3:])
    if not a * b * c:
        return np.zeros((3, 3))
    x = c * np.cos(beta)
    y = c * (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    z = np.sqrt(max(c * c - x * x - y * y, 0.0))
    return np.array([[a, 0.0, 0.0], [b * np.cos(gamma), b * np.sin(gamma), 0.0], [x, y, z]])
