"""Read the files of a SNAP: coefficients per element, and the parameters of the descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.core.arrays import Block, Scalars
from mixserver_worker.engines.lammps.text import words_of
from mixserver_worker.engines.lammps.weighting.split_styles import SnapTerm

_KNOWN: Final = {
    "rcutfac": None,
    "twojmax": None,
    "rfac0": 0.99363,
    "rmin0": 0.0,
    "switchflag": 1.0,
    "bzeroflag": 1.0,
    "quadraticflag": 0.0,
}
"""Parameters and LAMMPS's defaults; None where a file must have it."""
_OFF: Final = ("chemflag", "bnormflag", "wselfallflag", "switchinnerflag")
"""Parameters that must be 0 here."""
_IGNORED: Final = ("chunksize", "parallelthresh")
"""Parameters that only matter for speed."""
_LARGEST_2J: Final = 8


class NotCompiled(Exception):
    """This SNAP cannot be evaluated here; the message is the reason. LAMMPS evaluates it."""


@dataclass(frozen=True, slots=True)
class SnapParameters:
    """A SNAP of some elements."""

    types: tuple[int, ...]
    """The user's atom types that it has, counted from 0; the order of its elements."""
    twojmax: int
    cutoffs: Block
    """(elements, elements) Å, between a central atom and a neighbour."""
    neighbour_weights: Scalars
    """(elements,) w_j of the density of neighbours."""
    coefficients: Block
    """(elements, 1 + K) eV; the first is the energy of an isolated atom. With quadratic terms K is
    as without, and the products follow in `quadratic`."""
    quadratic: Block
    """(elements, K * K) eV, symmetric matrices: the energy has B.Q.B / 2. Zeros for linear ones."""
    is_quadratic: bool
    rfac0: float
    switched: bool
    """Whether the density of neighbours goes to 0 at the cutoff."""
    bzero: bool
    """Whether the descriptors of an isolated atom are subtracted."""


def read_parameters(snap: SnapTerm) -> SnapParameters:
    """Read the files that a pair_coeff of a SNAP names.

    Raises:
        NotCompiled: it has parameters or a form that are not known here.
    """
    coefficient_file, parameter_file = (Path(name) for name in words_of(snap.files))
    values = _parameters(parameter_file)
    twojmax = int(values["twojmax"])
    if not 0 < twojmax <= _LARGEST_2J:
        raise NotCompiled(f"twojmax is {twojmax}; 1 to {_LARGEST_2J} are possible")
    quadratic = bool(values["quadraticflag"])
    names = [name for name in snap.names if name is not None]
    radii, weights, rows = _coefficients(coefficient_file, names)
    count = _descriptors(twojmax)
    expected = 1 + count + (count * (count + 1) // 2 if quadratic else 0)
    if rows.shape[1] != expected:
        raise NotCompiled(
            f"{coefficient_file.name} has {rows.shape[1]} coefficients per element, but twojmax = "
            f"{twojmax} with quadraticflag = {int(quadratic)} takes {expected}"
        )
    cutoffs = values["rcutfac"] * (radii[:, None] + radii[None, :])
    if values["rmin0"]:
        raise NotCompiled(f"rmin0 is {values['rmin0']} Å instead of 0")
    if not 0.0 < values["rfac0"] < 1.0:
        raise NotCompiled(f"rfac0 is {values['rfac0']}; it must be between 0 and 1")
    return SnapParameters(
        types=snap.visible,
        twojmax=twojmax,
        cutoffs=cutoffs,
        neighbour_weights=weights,
        coefficients=np.ascontiguousarray(rows[:, : 1 + count]),
        quadratic=_matrices(rows[:, 1 + count :], count),
        is_quadratic=quadratic,
        rfac0=values["rfac0"],
        switched=bool(values["switchflag"]),
        bzero=bool(values["bzeroflag"]),
    )


def _parameters(file: Path) -> dict[str, float]:
    values: dict[str, float] = {}
    for line in _lines(file):
        name, *rest = line.split()
        if name in _IGNORED:
            continue
        if name not in _KNOWN and name not in _OFF:
            raise NotCompiled(f"{file.name} has the parameter {name!r}, which is not known here")
        try:
            values[name] = float(rest[0])
        except (IndexError, ValueError) as error:
            raise NotCompiled(f"{file.name}: {line!r} has no number") from error
        if name in _OFF and values[name]:
            raise NotCompiled(f"{file.name} sets {name}")
    for name, default in _KNOWN.items():
        if name not in values:
            if default is None:
                raise NotCompiled(f"{file.name} has no {name}")
            values[name] = default
    return values


def _coefficients(file: Path, names: list[str]) -> tuple[Scalars, Scalars, Block]:
    """Radii and weights (elements,), and coefficients (elements, ...), of the named elements."""
    words = [word for line in _lines(file) for word in line.split()]
    try:
        count, width = int(words[0]), 3 + int(words[1])
        blocks = [words[2 + width * at : 2 + width * (at + 1)] for at in range(count)]
        numbers = {block[0]: [float(word) for word in block[1:]] for block in blocks}
        table = np.array([numbers[name] for name in names])
    except (IndexError, KeyError, ValueError) as error:
        raise NotCompiled(f"{file.name} has no complete block for {' '.join(names)}") from error
    if table.ndim != 2 or table.shape[1] != width - 1:
        raise NotCompiled(f"{file.name} ends too early")
    return table[:, 0].copy(), table[:, 1].copy(), table[:, 2:].copy()


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotCompiled(f"{file} cannot be read: {error}") from error
    return [line for raw in text.splitlines() if (line := raw.split("#")[0].strip())]


def _descriptors(twojmax: int) -> int:
    """Number of bispectrum components j1, j2, j with j2 <= j1 <= j."""
    return sum(
        1
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)
        if j >= j1
    )


def _matrices(rows: Block, count: int) -> Block:
    """(elements, count * count) symmetric matrices from their upper triangles, row by row.

    A diagonal coefficient q stands for q B_k^2 / 2, another one for q B_k B_l.
    """
    found = np.zeros((len(rows), count, count))
    if rows.shape[1]:
        upper = np.triu_indices(count)
        found[:, upper[0], upper[1]] = rows
        found[:, upper[1], upper[0]] = rows
    return found.reshape(len(rows), count * count)
