"""From coefficients to files that LAMMPS and our worker read: SNAP, pair table, commands.

Writes and reads text; knows no LAMMPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.arrays import Scalars
from mixserver.distill.descriptor import Descriptor
from mixserver.distill.overlay import Part, as_commands, read_parts
from mixserver.distill.pair import PairBasis
from mixserver.errors import ConfigError

_SAMPLES: Final = 4000
"""Of a pair table; LAMMPS interpolates between them."""
_NEAREST: Final = 0.4
"""Å, where the table begins."""
_UNSAID: Final = {
    "switchflag": "1",
    "switchinnerflag": "0",
    "chemflag": "0",
    "bnormflag": "0",
    "wselfallflag": "0",
    "diagonalstyle": "3",
}
"""What a snapparam file may say beside what `Descriptor` has: these values only."""
_NO_MATTER: Final = ("chunksize", "parallelthresh")
_OURS: Final = ("rcutfac", "twojmax", "rfac0", "rmin0", "quadraticflag", "bzeroflag")


def write_potential(
    folder: Path,
    name: str,
    descriptor: Descriptor,
    pairs: PairBasis,
    coefficients: Scalars,
    *,
    reference: Path | Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write NAME.snapcoeff, NAME.snapparam, NAME.table if there are pair functions, and NAME.in.

    Args:
        folder: exists.
        name: of the potential.
        descriptor: of the SNAP.
        pairs: pair functions, perhaps none.
        coefficients: (elements * columns + pairs.columns,).
        reference: pair_style and pair_coeff commands of the fixed reference, or their file; none
            is laid over. Files they name beside that file are copied.
        notes: lines for the head of each file: where it came from.

    Returns:
        NAME.in, which a `lammps` worker takes.

    Raises:
        ConfigError: the reference cannot be laid over the SNAP.
        ValueError: the number of coefficients does not fit.
    """
    laid = read_parts(reference, descriptor.elements)
    split = len(descriptor.elements) * descriptor.columns
    if len(coefficients) != split + pairs.columns:
        raise ValueError(
            f"{len(coefficients)} coefficients, expected {split} and {pairs.columns} of pairs"
        )
    head = "".join(f"# {note}\n" for note in notes)
    coeff, param, table = f"{name}.snapcoeff", f"{name}.snapparam", f"{name}.table"
    laid.copy_files(folder, taken=(coeff, param, table, f"{name}.in"))
    (folder / coeff).write_text(head + _snapcoeff(descriptor, coefficients[:split]))
    (folder / param).write_text(head + _snapparam(descriptor))
    symbols = " ".join(descriptor.elements)
    parts = [Part("snap", "", (("*", "*", f"{coeff} {param} {symbols}"),))]
    if pairs.columns:
        (folder / table).write_text(head + _table(pairs, coefficients[split:]))
        curves = tuple(
            (str(a + 1), str(b + 1), f"{table} {_keyword(pairs, a, b)} {pairs.cutoff!r}")
            for a, b in pairs.pairs
        )
        parts.append(Part("table", f"spline {2 * _SAMPLES}", curves))
    labels = " ".join(f"{at + 1} {symbol}" for at, symbol in enumerate(descriptor.elements))
    file = folder / f"{name}.in"
    text = "\n".join([f"labelmap atom {labels}", *as_commands([*parts, *laid.parts])])
    file.write_text(f"{head}{text}\n")
    return file


def read_snap(coeff: Path, param: Path) -> tuple[Descriptor, Scalars]:
    """Read a SNAP of LAMMPS.

    Returns:
        Its descriptors and (elements * columns,) coefficients.

    Raises:
        ConfigError: a file cannot be read, is no SNAP, or a SNAP of a kind that is not made here.
    """
    try:
        words = [line.split("#")[0].split() for line in coeff.read_text().splitlines()]
        words = [line for line in words if line]
        values = dict(
            line.split("#")[0].split()[:2]
            for line in param.read_text().splitlines()
            if line.split("#")[0].strip()
        )
        count, per = int(words[0][0]), int(words[0][1])
        blocks = [words[1 + at * (per + 1) : 1 + (at + 1) * (per + 1)] for at in range(count)]
        numbers = np.array([[float(line[0]) for line in block[1:]] for block in blocks])
        descriptor = Descriptor(
            twojmax=int(values["twojmax"]),
            cutoff=float(values["rcutfac"]),
            elements=tuple(block[0][0] for block in blocks),
            radii=tuple(float(block[0][1]) for block in blocks),
            weights=tuple(float(block[0][2]) for block in blocks),
            rfac0=float(values.get("rfac0", 0.99363)),
            rmin0=float(values.get("rmin0", 0.0)),
            quadratic=values.get("quadraticflag", "0") == "1",
            bzero=values.get("bzeroflag", "1") == "1",
        )
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ConfigError(f"{coeff} and {param} are no SNAP that can be read: {error}") from error
    for key, value in values.items():
        if key not in (*_OURS, *_NO_MATTER) and value != _UNSAID.get(key):
            raise ConfigError(
                f"{param} says {key} {value}, and SNAPs of that kind are not known here; take a "
                f"potential without it (known: {', '.join(_OURS)})"
            )
    if numbers.shape != (count, descriptor.columns):
        raise ConfigError(
            f"{coeff} has {per} coefficients per element, but twojmax {descriptor.twojmax} in "
            f"{param} takes {descriptor.columns}"
        )
    return descriptor, numbers.ravel()


def _snapcoeff(descriptor: Descriptor, coefficients: Scalars) -> str:
    blocks = coefficients.reshape(len(descriptor.elements), descriptor.columns)
    lines = [f"{len(descriptor.elements)} {descriptor.columns}"]
    for at, symbol in enumerate(descriptor.elements):
        lines.append(f"{symbol} {descriptor.radii[at]:.17g} {descriptor.weights[at]:.17g}")
        lines += [f"{value:.17g}" for value in blocks[at]]
    return "\n".join(lines) + "\n"


def _snapparam(descriptor: Descriptor) -> str:
    return (
        f"rcutfac {descriptor.cutoff:.17g}\ntwojmax {descriptor.twojmax}\n"
        f"rfac0 {descriptor.rfac0:.17g}\nrmin0 {descriptor.rmin0:.17g}\n"
        f"bzeroflag {descriptor.bzero:d}\nquadraticflag {descriptor.quadratic:d}\n"
    )


def _keyword(pairs: PairBasis, a: int, b: int) -> str:
    return f"{pairs.elements[a]}-{pairs.elements[b]}"


def _table(pairs: PairBasis, coefficients: Scalars) -> str:
    r = np.linspace(_NEAREST, pairs.cutoff, _SAMPLES)
    text = ""
    for number, (a, b) in enumerate(pairs.pairs):
        here = slice(number * pairs.functions, (number + 1) * pairs.functions)
        energy, force = pairs.curve(coefficients[here], r)
        rows = "".join(
            f"{at} {x:.12g} {e:.15g} {f:.15g}\n"
            for at, (x, e, f) in enumerate(zip(r, energy, force, strict=True), 1)
        )
        ends = f"{r[0]:.17g} {r[-1]:.17g}"
        text += f"\n{_keyword(pairs, a, b)}\nN {len(r)} R {ends}\n\n{rows}"
    return text
