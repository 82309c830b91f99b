"""Descriptor rows of labelled structures: made by programs of the workers' side, read from files.

Each set of descriptors has a folder of its own, named by its settings, so several live side by side
and none is made twice. Beside the rows is written which atoms they are of: rows of a structure that
was made anew under its old name are made anew too. Knows nothing of fits.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixserver.children import Child, start
from mixserver.distill.descriptor import Descriptor
from mixserver.distill.labelled import load_labelled
from mixserver.errors import ConfigError, EvaluationError
from mixserver.whole import write_whole

Block = NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Told (done, total)."""

_SOURCES: Final = "sources.json"
"""In the folder of each set of descriptors: which atoms each file of rows is of."""
_LOOK_S: Final = 0.1
_GRACE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class RowFiles:
    """Rows that are there."""

    folder: Path

    def __call__(self, name: str) -> Block:
        """(K, 1 + 3N + 6, columns) of a structure.

        Raises:
            ConfigError: the file is damaged.
        """
        file = self.folder / f"{name}.npy"
        try:
            rows: Block = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ConfigError(
                f"{file} holds no descriptor rows ({error}); delete it, and it is made again"
            ) from error
        return rows


def tag(descriptor: Descriptor) -> str:
    """A folder's name: readable, and different for different settings."""
    digest = hashlib.sha256(msgspec.json.encode(descriptor)).hexdigest()[:8]
    kind = "q" if descriptor.quadratic else ""
    return f"2J{descriptor.twojmax}{kind}_{descriptor.cutoff:g}_{digest}"


async def make_rows(
    descriptor: Descriptor,
    labels: Sequence[Path],
    folder: Path,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> RowFiles:
    """Make the rows of structures, those that are not there yet or are of other atoms.

    Args:
        descriptor: of the SNAP.
        labels: files of labelled structures; their names name the rows.
        folder: in which the descriptors' own folder is.
        processes: how many programs share the work.
        progress: told how many structures are done.

    Raises:
        ConfigError: a label file is damaged.
        EvaluationError: a program failed; its last words are quoted.
    """
    settings = msgspec.to_builtins(descriptor)
    return await _made(
        {"settings": settings}, labels, folder / tag(descriptor), processes, progress
    )


async def make_reference_rows(
    commands: Path,
    labels: Sequence[Path],
    folder: Path,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> RowFiles:
    """The same of a fixed potential, told like one descriptor: (K, 1 + 3N + 6, 1).

    Args:
        commands: file of LAMMPS commands. When it changes, or a file it names that lies beside it,
            the rows are made anew.
        labels: as of `make_rows`, as are the others.
        folder: likewise.
        processes: likewise.
        progress: likewise.

    Raises:
        ConfigError: a label file is damaged, or the commands cannot be read.
        EvaluationError: a program failed; its last words are quoted.
    """
    what: dict[str, object] = {"commands": str(_whole(commands))}
    return await _made(what, labels, folder / _reference(commands), processes, progress)


def _whole(path: Path) -> Path:
    """The path from the root on: the programs run elsewhere."""
    return path.resolve()


def _made_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return _whole(folder)


def _reference(commands: Path) -> str:
    """A folder's name: different for different commands, and for other files of the same name."""
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


def _only_current(labels: Sequence[Path], outs: Mapping[Path, Path], folder: Path) -> None:
    """Delete rows that are not of the atoms their label file has now."""
    file = folder / _SOURCES
    try:
        known = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        known = {}  # nobody knows what the rows are of
    for label in labels:
        s = load_labelled(label).structure
        digest = hashlib.sha256()
        for array in (s.numbers, s.positions, s.cell, s.group):
            digest.update(np.ascontiguousarray(array).tobytes())
        if known.get(outs[label].name) != digest.hexdigest():
            outs[label].unlink(missing_ok=True)
            known[outs[label].name] = digest.hexdigest()
    # after the rows are gone: a kill in between must not make old rows look current
    write_whole(file, msgspec.json.encode(known))


async def _made(
    what: dict[str, object],
    labels: Sequence[Path],
    folder: Path,
    processes: int,
    progress: Progress | None,
) -> RowFiles:
    folder = _made_folder(folder)
    outs = {file: folder / f"{file.stem}.npy" for file in labels}
    _only_current(labels, outs, folder)
    missing = [file for file in labels if not outs[file].exists()]

    def tell() -> None:
        if progress is not None:
            progress(sum(out.exists() for out in outs.values()), len(outs))

    tell()
    shares = [missing[at::processes] for at in range(processes)]
    children: list[Child] = []
    try:
        for at, share in enumerate(shares):
            if not share:
                continue
            items = [{"source": str(_whole(file)), "out": str(outs[file])} for file in share]
            job = folder / f"job-{at}.json"
            job.write_bytes(msgspec.json.encode({"items": items, **what}))
            child = await start(
                f"rows {folder.name}",
                [sys.executable, "-P", "-m", "clients.rows", str(job)],
                folder=folder,
                log_file=folder / f"rows-{at}.log",
                environment={"OMP_NUM_THREADS": "1"},
            )
            children.append(child)
        ends = [asyncio.ensure_future(child.wait()) for child in children]
        while ends and not all(end.done() for end in ends):
            await asyncio.wait(ends, timeout=_LOOK_S)
            tell()
            if any(end.done() and end.result() for end in ends):
                break
        for child in children:
            if child.returncode:
                how = f" (killed by signal {-child.returncode})" if child.returncode < 0 else ""
                raise EvaluationError(
                    f"descriptors could not be computed{how}; last words ({child.log_file}):\n"
                    f"{child.last_words()}"
                )
    finally:
        await asyncio.gather(*(child.end(_GRACE_S) for child in children))
    tell()
    return RowFiles(folder)
