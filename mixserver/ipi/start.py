"""The initial state of i-PI's systems (atoms, masses, positions, cell), by i-PI's own reader."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.ipi_import import import_ipi
from mixserver.core.units import BOHR
from mixserver.ipi.parse import expand_template, ipi_errors_as_config_errors, parse_input

FILES: Final = frozenset({"xyz", "pdb", "ase", "chk"})
"""Modes by which <initialize> takes something from a file."""
_NO_CELL: Final = (
    "i-PI finds no cell in {}: its xyz wants 'CELL(abcABC): ' and six numbers in the comment, with "
    "a blank after the colon; ASE's extended xyz is read with <file mode='ase'>; or give <cell> in "
    "<initialize>"
)
_KEPT: Final = frozenset({"positions", "cell", "masses", "labels"})


@dataclass(frozen=True, slots=True)
class InitialState:
    """One <system> before its first step."""

    labels: tuple[str, ...]
    """(N,) as i-PI keeps them."""
    masses: Scalars
    """(N,) amu."""
    positions: Vectors
    """(beads, N, 3) Å."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors, as i-PI will send it."""

    @property
    def centroid(self) -> Vectors:
        """Mean position over the beads, (N, 3) Å."""
        mean: Vectors = self.positions.mean(axis=0)
        return mean


def read_initial_state(file: Path, system: int, *, of: Path | None = None) -> InitialState:
    """The initial state of one system of an i-PI input or RESTART.

    i-PI does all of <initialize> that concerns atoms, in its order: files with their modes and
    units, explicit cells, labels and masses, frames that become beads.

    Args:
        file: the input; files in it are relative to its folder.
        system: which <system>, counted from 0; those of a <system_template> count where it stands.
        of: a file of <initialize>: with the positions that it has, and its cell unless the input
            gives one in numbers, even if i-PI then takes others from elsewhere.

    Raises:
        ConfigError: i-PI would refuse it.
    """
    file = file.absolute()
    one = _systems(file)[system]
    with ipi_errors_as_config_errors(f"the start of system {system} in i-PI's {file.name}"):
        files = {_found(file.parent, entry) for _, entry in one.initialize.fetch().queue}
    known = sorted(path for path in {file, *files} if path is not None)
    stamps = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in known)
    return _read(file, system, of, stamps)


@lru_cache(maxsize=4)
def _read(file: Path, system: int, of: Path | None, stamps: tuple[Any, ...]) -> InitialState:
    """Read an initial state; cached until one of the files changes."""
    import_ipi()
    from ipi.utils.units import unit_to_user  # noqa: PLC0415 - heavy

    one = _systems(file)[system]
    state = SimpleNamespace()
    with ipi_errors_as_config_errors(f"the start of system {system} in i-PI's {file.name}"):
        start = one.initialize.fetch()
        state.beads, state.cell = one.beads.fetch(), one.cell.fetch()
        start.queue = [_from(file.parent, what, entry) for what, entry in start.queue]
        start.queue = [
            (what, entry)
            for what, entry in start.queue
            if what in _KEPT and (of is None or _belongs(what, entry, of))
        ]
        try:
            start.init_stage1(state)
        except (ValueError, UnboundLocalError) as error:
            _explain(error, state, start.queue)
            raise
        beads = state.beads
        found = InitialState(
            labels=tuple(str(label) for label in beads.names),
            masses=np.array(beads.m, np.float64) * float(unit_to_user("mass", "dalton", 1.0)),
            positions=np.array(beads.q, np.float64).reshape(beads.nbeads, -1, 3) * BOHR,
            cell=np.ascontiguousarray(np.array(state.cell.h, np.float64).T * BOHR),
        )
    if np.trace(found.cell) < 0.0 and np.ptp(np.diag(found.cell)) == 0.0:
        raise ConfigError(_NO_CELL.format(_names(start.queue)))
    for array in (found.masses, found.positions, found.cell):
        array.flags.writeable = False
    return found


def _explain(error: Exception, state: Any, queue: list[tuple[str, Any]]) -> None:
    """Explain an error of i-PI, where its cause can be seen.

    Raises:
        ConfigError: the explanation.
    """
    names, words = _names(queue), str(error)
    if isinstance(error, UnboundLocalError):
        raise ConfigError(
            f"i-PI finds no frame in {names}: an xyz begins with the number of atoms, alone in its "
            "first line, without a byte-order mark"
        ) from error
    if "the cell" in words:
        raise ConfigError(_NO_CELL.format(names)) from error
    if "the masses" in words or "the atom labels" in words:
        labels = np.array([str(label) for label in state.beads.names])
        if "" in labels:
            there = int(np.count_nonzero(labels != ""))
            raise ConfigError(f"{names} announces {len(labels)} atoms but has {there}") from error
        unknown = sorted(set(labels[np.array(state.beads.m) <= 0.0].tolist()))
        raise ConfigError(
            f"i-PI knows no mass of {', '.join(unknown)} in {names}: write element symbols, or "
            "give <masses> in <initialize>"
        ) from error


def _names(queue: list[tuple[str, Any]]) -> str:
    """The files of <initialize>."""
    files = dict.fromkeys(Path(entry.value).name for _, entry in queue if entry.mode in FILES)
    return ", ".join(files) or "<initialize>"


def count_frames(file: Path, mode: str) -> int:
    """How many frames of a file i-PI would take as beads; a checkpoint counts as one."""
    if mode == "chk":
        return 1
    import_ipi()
    from ipi.utils.io import iter_file_raw  # noqa: PLC0415 - heavy

    with ipi_errors_as_config_errors(str(file)), file.open(encoding="utf-8") as handle:
        return sum(1 for _ in iter_file_raw(mode, handle))


def _systems(file: Path) -> list[Any]:
    found: list[Any] = []
    for name, entry in parse_input(file).extra:
        if name == "system":
            found.append(entry)
        elif name == "system_template":
            found += [system for _, system in expand_template(entry, file.parent)]
    return found


def _belongs(what: str, entry: Any, of: Path) -> bool:
    """Whether an entry of <initialize> belongs to the content of a file."""
    from_file = entry.mode in FILES
    if from_file and Path(entry.value).samefile(of):
        return True
    return what in {"masses", "labels"} or (what == "cell" and not from_file)


def _from(folder: Path, what: str, entry: Any) -> tuple[str, Any]:
    """Name a file from where i-PI will run."""
    path = _found(folder, entry)
    if path is not None:
        entry.value = str(path)
    return what, entry


def _found(folder: Path, entry: Any) -> Path | None:
    """The file of an entry of <initialize>; None if it has none.

    Raises:
        ConfigError: it does not exist.
    """
    if entry.mode not in FILES:
        return None
    path = folder / str(entry.value)
    if not path.is_file():
        raise ConfigError(f"{path} (of <initialize>) does not exist")
    return path
