"""Structures from the user's files, fitted along with the soft set: frames of runs, defects.

Files are any that ASE reads and i-PI's own xyz, with one frame or many; labels in them are not
used, since the expensive model labels them like all others. They are read, and what cannot be
fitted is refused, before anything is asked of a model. Of long files only the frames that are
chosen are kept.
"""

from __future__ import annotations

import io
import itertools
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.io import iread, read
from ase.neighborlist import neighbor_list

from mixserver.distill.labelled import Structure
from mixserver.distill.structures import divided
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.record.structures import read_atoms

log = structlog.get_logger(__name__)

_GIVEN: Final = 3
"""What random numbers are for, after those of the soft set."""
_XYZ: Final = (".xyz", ".extxyz")
_IPI: Final = re.compile(r"CELL[(\[{](abcABC|H|GENH)[)\]}]:")
_TOUCHING: Final = 0.5
"""Of the sum of two covalent radii: nearer than this no two atoms are by themselves."""
_SAME: Final = 1e-6
"""Å by which positions may differ and still be the same."""


@dataclass(frozen=True, eq=False)
class Given:
    """A frame out of a file."""

    where: str
    """For people: which frame of which file."""
    frame: Frame


def given_frames(files: Sequence[Path], most: int, elements: Sequence[str] = ()) -> list[Given]:
    """Frames of the files, evenly chosen from all.

    Args:
        files: each with one frame or many.
        most: so many frames at most, over all files.
        elements: those the potential has; () for any.

    Returns:
        In the files' order. Of frames that are the same the first.

    Raises:
        ConfigError: a file is named twice or cannot be read; a frame does not repeat in all
            directions, is not finite, has an element the potential has not, or has atoms on top of
            each other.
    """
    whole = [file.resolve() for file in files]
    for file, path in zip(files, whole, strict=True):
        if whole.count(path) > 1:
            raise ConfigError(
                f"given.files names {file} twice; once is enough, and twice would be both fitted "
                "and tested by"
            )
    counts = [_count(file) for file in files]
    total = sum(counts)
    chosen = np.arange(total)
    if total > most:
        chosen = np.linspace(0, total - 1, most).round().astype(int)
    first = 0
    found: list[Given] = []
    for file, count in zip(files, counts, strict=True):
        wanted = [int(at) - first for at in chosen if first <= at < first + count]
        first += count
        for at, atoms in zip(wanted, _frames(file, wanted), strict=True):
            where = f"frame {at} of {file}"
            found.append(Given(where, _checked(atoms, where, elements)))
    return _once(found)


def given_structures(given: Sequence[Given], groups: int, seed: int) -> list[Structure]:
    """Frames as structures of kind "given".

    Args:
        given: from `given_frames`.
        groups: K, into how many groups each is divided.
        seed: of the division.
    """
    return [
        Structure(
            f"given-{at:03d}",
            "given",
            one.frame.topology.numbers,
            one.frame.wrapped,
            one.frame.cell,
            divided(one.frame, groups, (seed, _GIVEN, at)),
        )
        for at, one in enumerate(given)
    ]


def _count(file: Path) -> int:
    """How many frames a file has."""
    try:
        if file.suffix in _XYZ:
            count = sum(1 for _ in _blocks(file))
        else:
            count = sum(1 for _ in _others(file))
    except Exception as error:  # ASE's readers raise anything
        raise _unreadable(file, error) from error
    if not count:
        raise ConfigError(f"given.files: {file} holds no atoms")
    return count


def _frames(file: Path, wanted: Sequence[int]) -> Iterator[Atoms]:
    """These frames of a file, counted from 0, ascending."""
    if not wanted:
        return
    kept = set(wanted)
    try:
        if file.suffix in _XYZ:
            blocks = (block for at, block in enumerate(_blocks(file)) if at in kept)
            yield from (_parsed(block, file) for block in blocks)
        else:
            frames = itertools.islice(_others(file), wanted[-1] + 1)
            yield from (atoms for at, atoms in enumerate(frames) if at in kept)
    except ConfigError:
        raise
    except Exception as error:  # ASE's readers raise anything
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ConfigError:
    return ConfigError(f"given.files: {file} cannot be read: {error}")


def _blocks(file: Path) -> Iterator[str]:
    """The frames of an xyz file as text, not understood yet."""
    with file.open(encoding="utf-8") as lines:
        for head in lines:
            if not head.strip():
                continue
            count = int(head)
            rows = list(itertools.islice(lines, count + 1))
            if len(rows) != count + 1:
                raise ValueError(f"its last frame announces {count} atoms and has fewer")
            yield "".join([head, *rows])


def _parsed(block: str, file: Path) -> Atoms:
    """One frame of an xyz file, i-PI's or anybody's."""
    if _IPI.search(block.split("\n", 2)[1]):
        with tempfile.TemporaryDirectory(prefix="mixserver-") as folder:
            alone = Path(folder) / "frame.xyz"
            alone.write_text(block, encoding="utf-8")
            return read_atoms(alone)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms = read(io.StringIO(block), format="extxyz")
    if not isinstance(atoms, Atoms):
        raise TypeError(f"a frame of {file} is no atoms")
    return atoms


def _others(file: Path) -> Iterator[Atoms]:
    """The frames of a file in any other format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from (atoms for atoms in iread(file, index=":") if isinstance(atoms, Atoms))


def _checked(atoms: Atoms, where: str, elements: Sequence[str]) -> Frame:
    """The frame, if it can be fitted."""
    finite = np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell[:]).all()
    if not len(atoms) or not finite:
        raise ConfigError(f"given.files: {where} has positions or a cell that are no numbers")
    if not atoms.pbc.all() or abs(np.linalg.det(atoms.cell[:])) < 1e-6:
        raise ConfigError(
            f"given.files: {where} does not repeat in all three directions; it needs a cell and "
            'pbc="T T T", around vacuum too'
        )
    symbols = {chemical_symbols[number] for number in atoms.numbers}
    if elements and (lacking := sorted(symbols - set(elements))):
        raise ConfigError(
            f"given.files: {where} has {', '.join(lacking)}, and the potential is of "
            f"{', '.join(elements)}; name all in potential.elements, or leave the frame out"
        )
    touching = {
        (a, b): _TOUCHING * (covalent_radii[a] + covalent_radii[b])
        for a, b in itertools.combinations_with_replacement(set(atoms.numbers.tolist()), 2)
    }
    first, second, apart = neighbor_list("ijd", atoms, touching)
    if len(apart):
        at = int(np.argmin(apart))
        raise ConfigError(
            f"given.files: {where} has atoms {first[at]} and {second[at]} only {apart[at]:.2f} Å "
            "apart, far inside their covalent radii, where labels are huge and the fit would be "
            "of nothing else; leave it out"
        )
    topology = Topology(np.asarray(atoms.numbers, dtype=np.int32))
    return topology.frame(
        np.ascontiguousarray(atoms.positions, dtype=np.float64),
        np.array(atoms.cell[:], dtype=np.float64),
    )


def _once(found: Sequence[Given]) -> list[Given]:
    """Without frames that are there twice, such as where several runs began."""
    kept: list[Given] = []
    for one in found:
        twin = next((other for other in kept if _same(one.frame, other.frame)), None)
        if twin is None:
            kept.append(one)
        else:
            log.warning("given twice, taken once", frame=one.where, same=twin.where)
    return kept


def _same(a: Frame, b: Frame) -> bool:
    return (
        np.array_equal(a.topology.numbers, b.topology.numbers)
        and np.allclose(a.cell, b.cell, rtol=0.0, atol=_SAME)
        and np.allclose(a.positions, b.positions, rtol=0.0, atol=_SAME)
    )
