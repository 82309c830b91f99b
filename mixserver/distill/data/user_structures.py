"""Structures from the user's files, fitted along with the soft set: frames of runs, defects.

Files are any that ASE reads and i-PI's own xyz, with one frame or many; labels in them are not
used, since the expensive model labels them like all others. Frames that cannot be fitted are
rejected before any model runs. Of long files only the chosen frames are kept.
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

from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.structures import as_frame, read_atoms
from mixserver.distill.data.labels import Structure
from mixserver.distill.data.perturbations import divided

log = structlog.get_logger(__name__)

_GIVEN: Final = 3
"""Key of the random numbers, after those of the soft set."""
_XYZ: Final = (".xyz", ".extxyz")
_IPI: Final = re.compile(r"CELL[(\[{](abcABC|H|GENH)[)\]}]:")
_TOUCHING: Final = 0.5
"""Fraction of the sum of two covalent radii below which atoms overlap."""
_SAME: Final = 1e-6
"""Å, tolerance for equal positions."""


@dataclass(frozen=True, eq=False)
class UserFrame:
    """A frame from a file."""

    where: str
    """For messages: frame and file."""
    frame: Frame


def read_user_frames(
    files: Sequence[Path], most: int, elements: Sequence[str] = ()
) -> list[UserFrame]:
    """At most `most` frames of the files, chosen evenly, in their order and without duplicates.

    The potential has these elements; () for any.

    Raises:
        ConfigError: a file is named twice or cannot be read; a frame does not repeat in all
            directions, is not finite, has an element that the potential lacks, or has
            overlapping atoms.
    """
    whole = [file.resolve() for file in files]
    for file, path in zip(files, whole, strict=True):
        if whole.count(path) > 1:
            raise ConfigError(
                f"given.files names {file} twice, so that the same frames would be used for "
                "training and testing; name it once"
            )
    counts = [_count(file) for file in files]
    total = sum(counts)
    chosen = np.linspace(0, total - 1, min(most, total)).round().astype(int)
    first = 0
    found: list[UserFrame] = []
    for file, count in zip(files, counts, strict=True):
        wanted = [at - first for at in chosen.tolist() if first <= at < first + count]
        first += count
        for at, atoms in zip(wanted, _frames(file, wanted), strict=True):
            where = f"frame {at} of {file}"
            found.append(UserFrame(where, _checked(atoms, where, elements)))
    return _once(found)


def user_structures(given: Sequence[UserFrame], groups: int, seed: int) -> list[Structure]:
    """Frames as structures of kind "given"."""
    found = []
    for at, one in enumerate(given):
        frame = one.frame.topology.frame(one.frame.wrapped, one.frame.cell)
        group = divided(frame, groups, (seed, _GIVEN, at))
        found.append(Structure.of(frame, f"given-{at:03d}", "given", group))
    return found


def _count(file: Path) -> int:
    """Number of frames in a file."""
    try:
        count = sum(1 for _ in _all(file))
    except Exception as error:  # ASE's readers raise anything
        raise _unreadable(file, error) from error
    if not count:
        raise ConfigError(f"given.files: {file} has no atoms")
    return count


def _frames(file: Path, wanted: Sequence[int]) -> Iterator[Atoms]:
    """These frames of a file, counted from 0, ascending."""
    if not wanted:
        return
    try:
        for at, frame in enumerate(itertools.islice(_all(file), wanted[-1] + 1)):
            if at in wanted:
                yield frame if isinstance(frame, Atoms) else _parsed(frame, file)
    except ConfigError:
        raise
    except Exception as error:  # ASE's readers raise anything
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ConfigError:
    return ConfigError(f"given.files: {file} cannot be read: {error}")


def _all(file: Path) -> Iterator[str | Atoms]:
    """All frames of a file; those of xyz files as text, which is parsed if it is wanted."""
    if file.suffix in _XYZ:
        yield from _blocks(file)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from (atoms for atoms in iread(file, index=":") if isinstance(atoms, Atoms))


def _blocks(file: Path) -> Iterator[str]:
    """The frames of an xyz file as text."""
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
    """One frame of an xyz file, of i-PI or extended xyz."""
    if _IPI.search(block.split("\n", 2)[1]):
        with tempfile.TemporaryDirectory(prefix="mixserver-") as folder:
            alone = Path(folder) / "frame.xyz"
            alone.write_text(block, encoding="utf-8")
            return read_atoms(alone)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms = read(io.StringIO(block), format="extxyz")
    if not isinstance(atoms, Atoms):
        raise TypeError(f"a frame of {file} is not a structure")
    return atoms


def _checked(atoms: Atoms, where: str, elements: Sequence[str]) -> Frame:
    """The frame, checked for a fit."""
    finite = np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell[:]).all()
    if not len(atoms) or not finite:
        raise ConfigError(f"given.files: {where} has positions or a cell that are not finite")
    if not atoms.pbc.all() or abs(np.linalg.det(atoms.cell[:])) < 1e-6:
        raise ConfigError(
            f"given.files: {where} is not periodic in all three directions; it needs a cell and "
            'pbc="T T T", also around vacuum'
        )
    symbols = {chemical_symbols[number] for number in atoms.numbers}
    if elements and (lacking := sorted(symbols - set(elements))):
        raise ConfigError(
            f"given.files: {where} has {', '.join(lacking)}, but the potential has "
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
            "apart, far inside their covalent radii; their huge forces would dominate the fit. "
            "Leave the frame out"
        )
    return as_frame(atoms)


def _once(found: Sequence[UserFrame]) -> list[UserFrame]:
    """Without duplicates, such as the start of several runs."""
    kept: list[UserFrame] = []
    for one in found:
        twin = next((other for other in kept if _same(one.frame, other.frame)), None)
        if twin is None:
            kept.append(one)
        else:
            log.warning("duplicate frame left out", frame=one.where, same=twin.where)
    return kept


def _same(a: Frame, b: Frame) -> bool:
    return (
        np.array_equal(a.topology.numbers, b.topology.numbers)
        and np.allclose(a.cell, b.cell, rtol=0.0, atol=_SAME)
        and np.allclose(a.positions, b.positions, rtol=0.0, atol=_SAME)
    )
