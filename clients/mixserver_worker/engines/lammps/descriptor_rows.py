"""A program that writes descriptor rows of structures for fits, run by `mixserver distill`.

It reads structures from files, writes an array of rows for each, prints a line per structure and
ends. Existing files are kept, so it can be restarted. Rows of descriptors come from `descriptors`,
rows of a whole potential from the engine.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import msgspec
import numpy as np

from mixserver.core.arrays import Block, Groups, Matrix, Numbers, Vectors
from mixserver.core.atomic_write import atomic_writer
from mixserver.core.errors import ConfigError, MixserverError
from mixserver.core.strain import stress_to_voigt
from mixserver.wire.descriptor import SnapDescriptor
from mixserver.wire.worker import Evaluate
from mixserver_worker.engines.lammps.descriptors import snap_rows
from mixserver_worker.engines.lammps.engine import LammpsEngine


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One structure."""

    source: str
    """.npz with numbers (N,), positions (N, 3) Å, cell (3, 3) Å and group (N,)."""
    out: str
    """.npy to write: (K, 1 + 3N + 6, columns of all elements), or of the reference one column."""


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The structures to evaluate, and how."""

    items: tuple[Item, ...]
    settings: SnapDescriptor | None = None
    """Of the descriptors."""
    commands: str = ""
    """Instead of `settings`: the commands file of a potential that is written as one descriptor
    with coefficient 1."""


class _Structure:
    """A structure from its file."""

    def __init__(self, file: Path) -> None:
        try:
            with np.load(file, allow_pickle=False) as data:
                for name in ("numbers", "group"):
                    if data[name].dtype.kind not in "iu" or data[name].ndim != 1:
                        raise ValueError(f"{name} is not a list of integers")
                self.numbers: Numbers = data["numbers"].astype(np.int32)
                self.positions: Vectors = np.ascontiguousarray(data["positions"], np.float64)
                self.cell: Matrix = np.ascontiguousarray(data["cell"], np.float64)
                self.group: Groups = data["group"].astype(np.int32)
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError(
                f"{file} does not have numbers, positions, cell and group of a structure "
                f"({error}); delete it, and it is written again"
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


def _potential_rows(engine: LammpsEngine, structure: _Structure) -> Block:
    """(K, 1 + 3N + 6, 1): energy, forces and virial of a potential for each group."""
    found = []
    for group in range(structure.groups):
        answer = engine.evaluate(
            Evaluate(
                job=0,
                stream=0,
                positions=structure.positions,
                numbers=structure.numbers,
                cell=structure.cell,
                pbc=(True, True, True),
                weight=None
                if structure.groups == 1
                else (structure.group == group).astype(np.float64),
            )
        )
        virial = stress_to_voigt(answer.virial)
        found.append(np.concatenate([[answer.energy], answer.forces.ravel(), virial]))
    return np.array(found)[:, :, None]


def work(job: Job) -> None:
    """Write the files that do not exist yet; print a line for each structure.

    Raises:
        ConfigError: an invalid structure, or LAMMPS refused.
        MissingPackage: lammps is not installed.
    """
    engine: LammpsEngine | None = None
    for item in job.items:
        out = Path(item.out)
        if not out.exists():
            structure = _Structure(Path(item.source))
            try:
                if job.settings is not None:
                    s = structure
                    rows = snap_rows(job.settings, s.numbers, s.positions, s.cell, s.group)
                else:
                    if engine is None:
                        engine = LammpsEngine(Path(job.commands))
                    rows = _potential_rows(engine, structure)
            except MixserverError as error:
                raise ConfigError(f"{item.source}: {error}") from error
            with atomic_writer(out) as stream:
                np.save(stream, rows)
        sys.stdout.write(f"{item.out}\n")
        sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Carry out the job in a file; returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("Error: expected one argument, the job file\n")
        return 2
    try:
        text = Path(arguments[0]).read_bytes()
        job = msgspec.json.decode(text, type=Job)
        if (job.settings is None) == (not job.commands):
            raise ConfigError("a job needs either settings or commands")
        work(job)
    except (MixserverError, OSError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
