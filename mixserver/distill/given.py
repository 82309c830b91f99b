"""Structures from the user's files, fitted along with the soft set: frames of runs, defects.

Files are any that ASE reads, with one frame or many; labels in them are not used, since the
expensive model labels them like all others.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read

from mixserver.distill.labelled import Structure
from mixserver.distill.structures import divided
from mixserver.errors import ConfigError
from mixserver.frame import Topology

_GIVEN = 3
"""What random numbers are for, after those of the soft set."""


def given_structures(
    files: Sequence[Path], most: int, elements: Sequence[str], groups: int, seed: int
) -> list[Structure]:
    """Frames of the files, evenly chosen from all.

    Args:
        files: each with one frame or many.
        most: so many frames at most, over all files.
        elements: those the potential has.
        groups: K, into how many groups each is divided.
        seed: of the division.

    Returns:
        Kind "given", in the files' order.

    Raises:
        ConfigError: a file cannot be read, a frame does not repeat in all directions, or has an
            element the potential has not.
    """
    frames = [frame for file in files for frame in _frames(file, elements)]
    if len(frames) > most:
        frames = [frames[at] for at in np.linspace(0, len(frames) - 1, most).round().astype(int)]
    made = []
    for at, atoms in enumerate(frames):
        topology = Topology(np.asarray(atoms.numbers, dtype=np.int32))
        frame = topology.frame(
            np.ascontiguousarray(atoms.positions, dtype=np.float64),
            np.array(atoms.cell[:], dtype=np.float64),
        )
        made.append(
            Structure(
                f"given-{at:03d}",
                "given",
                topology.numbers,
                frame.wrapped,
                frame.cell,
                divided(frame, groups, (seed, _GIVEN, at)),
            )
        )
    return made


def _frames(file: Path, elements: Sequence[str]) -> list[Atoms]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read(file, index=":")
    except Exception as error:  # ASE's readers raise anything
        raise ConfigError(f"soft structures {file} cannot be read: {error}") from error
    frames = [atoms for atoms in found if isinstance(atoms, Atoms)]
    if not frames:
        raise ConfigError(f"soft structures {file} holds no atoms")
    for at, atoms in enumerate(frames):
        where = f"frame {at} of {file}"
        if not atoms.pbc.all() or abs(np.linalg.det(atoms.cell[:])) < 1e-6:
            raise ConfigError(
                f"{where} does not repeat in all three directions; a soft structure needs a cell "
                'and pbc="T T T", around vacuum too'
            )
        symbols = {chemical_symbols[number] for number in atoms.numbers}
        if lacking := sorted(symbols - set(elements)):
            raise ConfigError(
                f"{where} has {', '.join(lacking)}, and the potential is of "
                f"{', '.join(elements)}; name all in potential.elements, or leave the frame out"
            )
    return frames
