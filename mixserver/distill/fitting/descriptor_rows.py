"""Descriptor rows of labelled structures: computed by worker processes, cached in files.

Each set of descriptors has its own folder, named by its settings. A digest of the atoms is kept
beside the rows, so that rows are recomputed if a structure has changed under its name.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from mixserver.core.arrays import Block
from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError, EvaluationError
from mixserver.core.processes import ManagedProcess, start_process
from mixserver.distill.data.labels import load_labels
from mixserver.distill.progress import StepProgress
from mixserver.wire.descriptor import SnapDescriptor

_PROCESSES: Final = 2
_PROGRAM: Final = "mixserver_worker.engines.lammps.descriptor_rows"
_SOURCES: Final = "sources.json"
"""In the folder of each set of descriptors: digests of the atoms of each file."""
_LOOK_S: Final = 0.1
_GRACE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class RowFiles:
    """Existing rows."""

    folder: Path

    def __call__(self, name: str) -> Block:
        """The rows (K, 1 + 3N + 6, columns) of a structure.

        Raises:
            ConfigError: the file is damaged.
        """
        file = self.folder / f"{name}.npy"
        try:
            rows: Block = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ConfigError(
                f"{file} holds no descriptor rows ({error}); delete it to compute it again"
            ) from error
        return rows


def folder_name(descriptor: SnapDescriptor) -> str:
    """A readable folder name that depends on all settings."""
    digest = hashlib.sha256(msgspec.json.encode(descriptor)).hexdigest()[:8]
    kind = "q" if descriptor.quadratic else ""
    return f"2J{descriptor.twojmax}{kind}_{descriptor.cutoff:g}_{digest}"


def compute_rows(
    descriptor: SnapDescriptor,
    labels: Sequence[Path],
    folder: Path,
    progress: StepProgress | None = None,
) -> Awaitable[RowFiles]:
    """Compute the rows of structures that are missing or of changed atoms.

    Rows get the names of the label files, in a folder of the descriptor's own below `folder`.

    Raises:
        ConfigError: a label file is damaged.
        EvaluationError: a process failed; its last log lines are quoted.
    """
    what = {"settings": msgspec.to_builtins(descriptor)}
    return _made(what, _only_current(labels, folder / folder_name(descriptor)), progress)


def compute_reference_rows(
    commands: Path, labels: Sequence[Path], folder: Path, progress: StepProgress | None = None
) -> Awaitable[RowFiles]:
    """The same for a fixed potential, a file of commands, as one descriptor: (K, 1 + 3N + 6, 1).

    The rows are recomputed when that file changes, or one that it names in the same folder.

    Raises:
        ConfigError: a label file is damaged, or the commands cannot be read.
        EvaluationError: a process failed; its last log lines are quoted.
    """
    # an absolute path, since the processes run in another folder
    what = {"commands": str(commands.resolve())}
    return _made(what, _only_current(labels, folder / _reference(commands)), progress)


def _reference(commands: Path) -> str:
    """A folder name that depends on the contents of the commands and of the files they name."""
    digest = hashlib.sha256()
    seen: set[Path] = set()
    waiting = [commands]
    while waiting:
        file = waiting.pop()
        seen.add(file)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
        digest.update(hashlib.sha256(content).digest())
        for line in content.decode(errors="replace").splitlines():
            words = line.split("#")[0].split()
            if words and words[0] in ("include", "pair_coeff", "pair_style"):
                named = [file.parent / word.strip("\"'") for word in words[1:]]
                waiting += [path for path in named if path.is_file() and path not in seen]
    return f"reference_{digest.hexdigest()[:8]}"


def _only_current(labels: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """The file of the rows of each label file; rows of other atoms are deleted. All absolute."""
    folder.mkdir(parents=True, exist_ok=True)
    outs = {file.resolve(): folder.resolve() / f"{file.stem}.npy" for file in labels}
    file = folder / _SOURCES
    try:
        known = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        known = {}  # the atoms of the rows are unknown
    for label, out in outs.items():
        s = load_labels(label).structure
        digest = hashlib.sha256()
        for array in (s.numbers, s.positions, s.cell, s.group):
            digest.update(np.ascontiguousarray(array).tobytes())
        if known.get(out.name) != digest.hexdigest():
            out.unlink(missing_ok=True)
            known[out.name] = digest.hexdigest()
    # after the rows are deleted: a kill in between must not make old rows look current
    write_atomically(file, msgspec.json.encode(known))
    return outs


async def _made(
    what: Mapping[str, object], outs: Mapping[Path, Path], progress: StepProgress | None
) -> RowFiles:
    folder = next(iter(outs.values())).parent
    missing = [file for file in outs if not outs[file].exists()]

    def report() -> None:
        if progress is not None:
            progress(sum(out.exists() for out in outs.values()), len(outs))

    report()
    children: list[ManagedProcess] = []
    try:
        for at in range(min(_PROCESSES, len(missing))):
            share = missing[at::_PROCESSES]
            items = [{"source": str(file), "out": str(outs[file])} for file in share]
            job = folder / f"job-{at}.json"
            job.write_bytes(msgspec.json.encode({"items": items, **what}))
            child = await start_process(
                f"rows {folder.name}",
                [sys.executable, "-P", "-m", _PROGRAM, str(job)],
                folder=folder,
                log_file=folder / f"rows-{at}.log",
                environment={"OMP_NUM_THREADS": "1"},
            )
            children.append(child)
        ends = [asyncio.ensure_future(child.wait()) for child in children]
        while ends and not all(end.done() for end in ends):
            await asyncio.wait(ends, timeout=_LOOK_S)
            report()
            if any(end.done() and end.result() for end in ends):
                break
        for child in children:
            if child.returncode:
                how = f" (killed by signal {-child.returncode})" if child.returncode < 0 else ""
                raise EvaluationError(
                    f"descriptors could not be computed{how}; end of {child.log_file}:\n"
                    f"{child.log_tail()}"
                )
    finally:
        await asyncio.gather(*(child.end(_GRACE_S) for child in children))
    report()
    return RowFiles(folder)
