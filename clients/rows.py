"""Descriptor rows of structures from LAMMPS's `compute snap`: ``python -m clients.rows JOB.json``.

A program, not a worker: it reads structures from files, writes an array of rows for each, says so
in a line, and ends. What is written already is left alone, so it can be started again. Rows of
descriptors are made by `descriptors`, those of a whole potential by the engine.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from clients.descriptors import Settings, snap_rows
from clients.engines.lammps import LammpsEngine
from mixserver.arrays import Matrix, Numbers, Vectors
from mixserver.errors import ConfigError, MixserverError
from mixserver.whole import whole
from mixserver.wire.worker import Evaluate

Block = NDArray[np.float64]

_VOIGT: Final = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
_ALL: Final = (True, True, True)


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One structure."""

    source: str
    """.npz with numbers (N,), positions (N, 3) Å, cell (3, 3) Å and group (N,)."""
    out: str
    """.npy to write: (K, 1 + 3N + 6, columns of all elements), or of the reference one column."""


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be done."""

    items: tuple[Item, ...]
    settings: Settings | None = None
    """Of the descriptors."""
    commands: str = ""
    """Instead of `settings`: file of LAMMPS commands of a potential that is to be told like one
    descriptor, with coefficient 1."""


class _Atoms:
    """A structure as it is in its file."""

    def __init__(self, file: Path) -> None:
        try:
            with np.load(file, allow_pickle=False) as data:
                for name in ("numbers", "group"):
                    if data[name].dtype.kind not in "iu" or data[name].ndim != 1:
                        raise ValueError(f"{name} is no list of whole numbers")
                self.numbers: Numbers = data["numbers"].astype(np.int32)
                self.positions: Vectors = np.ascontiguousarray(data["positions"], np.float64)
                self.cell: Matrix = np.ascontiguousarray(data["cell"], np.float64)
                self.group: NDArray[np.int32] = data["group"].astype(np.int32)
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError(
                f"{file} is no structure with numbers, positions, cell and group ({error}); "
                "delete it, and it is made again"
            ) from error
        n = len(self.numbers)
        shapes = (self.positions.shape, self.cell.shape, self.group.shape)
        if not n or shapes != ((n, 3), (3, 3), (n,)) or self.group.min() < 0:
            raise ConfigError(f"{file}: {n} atoms, but arrays of shapes {shapes}; delete it")
        if not (np.isfinite(self.positions).all() and np.isfinite(self.cell).all()):
            raise ConfigError(f"{file} has positions or a cell that are not finite; delete it")

    @property
    def groups(self) -> int:
        return int(self.group.max()) + 1


def _potential_rows(engine: LammpsEngine, atoms: _Atoms) -> Block:
    """(K, 1 + 3N + 6, 1): what a potential says of each group."""
    found = []
    for group in range(atoms.groups):
        answer = engine.evaluate(
            Evaluate(
                job=0,
                stream=0,
                positions=atoms.positions,
                numbers=atoms.numbers,
                cell=atoms.cell,
                pbc=_ALL,
                weight=None if atoms.groups == 1 else (atoms.group == group).astype(np.float64),
            )
        )
        voigt = answer.virial[_VOIGT]
        found.append(np.concatenate([[answer.energy], answer.forces.ravel(), voigt]))
    return np.array(found)[:, :, None]


def work(job: Job) -> None:
    """Write what is not there yet; say a line for each structure.

    Raises:
        ConfigError: a structure that cannot be, or LAMMPS refused.
        MissingPackage: lammps is not installed.
    """
    engine: LammpsEngine | None = None
    for item in job.items:
        out = Path(item.out)
        if not out.exists():
            atoms = _Atoms(Path(item.source))
            try:
                if job.settings is not None:
                    s = job.settings
                    rows = snap_rows(s, atoms.numbers, atoms.positions, atoms.cell, atoms.group)
                else:
                    if engine is None:
                        engine = LammpsEngine(Path(job.commands))
                    rows = _potential_rows(engine, atoms)
            except MixserverError as error:
                raise ConfigError(f"{item.source}: {error}") from error
            with whole(out) as stream:
                np.save(stream, rows)
        sys.stdout.write(f"{item.out}\n")
        sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Carry out the job in a file; 0 if it is done."""
    if len(arguments) != 1:
        sys.stderr.write("Error: give one file, the job\n")
        return 2
    try:
        text = Path(arguments[0]).read_bytes()
        job = msgspec.json.decode(text, type=Job)
        if (job.settings is None) == (not job.commands):
            raise ConfigError("a job has either settings or commands")
        work(job)
    except (MixserverError, OSError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
