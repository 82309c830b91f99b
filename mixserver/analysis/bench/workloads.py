"""What is evaluated: crystals, weighted clusters carved out of them, and thermal motion.

Positions move as in a crystal at some temperature, so that neighbour lists are renewed as often as
in a run; every contestant gets the same ones.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import ase.build
import ase.io
import numpy as np

from mixserver.core.arrays import Matrix, Numbers, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.region.profiles import PROFILES
from mixserver.wire.worker import Evaluate

CRYSTALS: Final = {
    "W": ("bcc", 3.165),
    "Si": ("diamond", 5.431),
    "Fe": ("bcc", 2.866),
    "Mo": ("bcc", 3.147),
    "C": ("diamond", 3.567),
    "Cu": ("fcc", 3.615),
    "Al": ("fcc", 4.046),
    "Pt": ("fcc", 3.924),
}
"""Structure and lattice constant (Å) of elements whose crystals can be built."""
_AMPLITUDE: Final = 0.07
"""Å, rms displacement along each axis: silicon at room temperature."""
_FREQUENCIES: Final = (2.0, 8.0)
"""THz."""
_STEP: Final = 1e-3
"""ps between two frames."""


@dataclass(frozen=True)
class Workload:
    """Atoms to evaluate, and how they move."""

    system: str
    """In words."""
    positions: Vectors
    """(n, 3) Å, at rest."""
    numbers: Numbers
    cell: Matrix
    weight: Scalars | None
    """(n,) site weights; None for 1 everywhere."""

    @cached_property
    def motion(self) -> ThermalMotion:
        """How the atoms move."""
        return ThermalMotion(self.positions)

    @property
    def sites(self) -> int:
        """Number of sites with a weight."""
        return len(self.positions) if self.weight is None else int(np.count_nonzero(self.weight))

    def job(self, frame: int, *, weighted: bool) -> Evaluate:
        """The job of a frame; without site weights all sites count."""
        return Evaluate(
            job=0,
            stream=1,
            positions=self.motion.frame(frame),
            numbers=self.numbers,
            cell=self.cell,
            pbc=(True, True, True),
            weight=self.weight if weighted else None,
        )


class ThermalMotion:
    """Independent vibrations about places at rest: the same for the same number of atoms.

    Args:
        rest: (n, 3) Å.
    """

    def __init__(self, rest: Vectors) -> None:
        rng = np.random.default_rng(len(rest))
        self._rest = rest
        self._amplitude = _AMPLITUDE * np.sqrt(2.0) * rng.normal(size=rest.shape)
        self._turns = rng.uniform(*_FREQUENCIES, size=rest.shape) * _STEP
        self._phase = rng.random(rest.shape)

    def frame(self, number: int) -> Vectors:
        """(n, 3) Å after so many steps of 1 fs."""
        angle = 2.0 * np.pi * (self._turns * number + self._phase)
        moved: Vectors = self._rest + self._amplitude * np.sin(angle)
        return moved


def crystal(element: str, sites: int) -> Workload:
    """A periodic crystal of about so many atoms, as near to a cube as that allows.

    Raises:
        ConfigError: the element's crystal is not known here.
    """
    cube = _unit(element)
    wanted = max(1.0, sites / len(cube))
    most = round(wanted ** (1.0 / 3.0)) + 3
    repeats = min(
        itertools.combinations_with_replacement(range(1, most), 3),
        key=lambda n: abs(np.prod(n) - wanted) / wanted + 0.15 * (n[2] / n[0] - 1.0),
    )
    return _workload(element, cube * repeats, f"{element} crystal, all sites")


def region(element: str, core: float, blend: float, receptive_field: float) -> Workload:
    """A sphere of weighted sites and its surroundings, as energy mixing sends them.

    Weights are 1 within `core` Å of an atom and fall to 0 over `blend` Å; atoms within one
    receptive field of a weighted site are sent along.

    Raises:
        ConfigError: the element's crystal is not known here.
    """
    cube = _unit(element)
    reach = core + blend + receptive_field
    side = float(cube.cell[0, 0])
    repeats = int(np.ceil((2.0 * reach + 2.0) / side))
    atoms = cube * (repeats, repeats, repeats)
    centre = atoms.positions[len(atoms) // 2 + len(cube) // 2]
    offset = atoms.positions - centre
    edge = float(atoms.cell[0, 0])
    away = np.linalg.norm(offset - edge * np.round(offset / edge), axis=1)
    weight = PROFILES["quintic"].value(np.clip((away - core) / blend, 0.0, 1.0))
    inside = away <= reach
    found = _workload(element, atoms[inside], f"{element}, region {core:g}/{blend:g}")
    return Workload(found.system, found.positions, found.numbers, found.cell, weight[inside])


def write_structure(workload: Workload, file: Path) -> None:
    """Write the atoms at rest as extended XYZ."""
    atoms = ase.Atoms(
        numbers=workload.numbers, positions=workload.positions, cell=workload.cell, pbc=True
    )
    ase.io.write(file, atoms, format="extxyz")


def _unit(element: str) -> ase.Atoms:
    if element not in CRYSTALS:
        raise ConfigError(
            f"no crystal of {element!r} can be built here; expected one of {', '.join(CRYSTALS)}"
        )
    structure, constant = CRYSTALS[element]
    return ase.build.bulk(element, structure, a=constant, cubic=True)


def _workload(element: str, atoms: ase.Atoms, system: str) -> Workload:
    return Workload(
        system,
        np.array(atoms.positions, dtype=np.float64),
        np.array(atoms.numbers, dtype=np.int32),
        np.array(atoms.cell, dtype=np.float64),
        None,
    )
