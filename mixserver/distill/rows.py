"""Descriptor rows of labelled structures: made by programs of the workers' side, read from files.

Each set of descriptors has a folder of its own, named by its settings, so several live side by side
and none is made twice. Knows nothing of fits.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixserver.children import Child, start
from mixserver.distill.descriptor import Descriptor
from mixserver.errors import ConfigError, EvaluationError

Block = NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Told (done, total)."""

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
    """Make the rows of structures, those that are not there yet.

    Args:
        descriptor: of the SNAP.
        labels: files of labelled structures; their names name the rows.
        folder: in which the descriptors' own folder is.
        processes: how many programs share the work.
        progress: told how many structures are done.

    Raises:
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
        commands: file of LAMMPS commands.
        labels: as of `make_rows`, as are the others.
        folder: likewise.
        processes: likewise.
        progress: likewise.

    Raises:
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
    return f"reference_{hashlib.sha256(commands.read_bytes()).hexdigest()[:8]}"


async def _made(
    what: dict[str, object],
    labels: Sequence[Path],
    folder: Path,
    processes: int,
    progress: Progress | None,
) -> RowFiles:
    folder = _made_folder(folder)
    outs = {file: folder / f"{file.stem}.npy" for file in labels}
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
                raise EvaluationError(
                    f"descriptors could not be computed; last words ({child.log_file}):\n"
                    f"{child.last_words()}"
                )
    finally:
        await asyncio.gather(*(child.end(_GRACE_S) for child in children))
    tell()
    return RowFiles(folder)
