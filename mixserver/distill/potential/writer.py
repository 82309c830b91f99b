"""Writes a potential for LAMMPS: SNAP coefficients and parameters, pair table, commands."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.distill.fitting.pair_basis import PairBasis
from mixserver.distill.potential.hybrid import PairStyle, pair_commands, read_pair_styles
from mixserver.wire.descriptor import SnapDescriptor

_SAMPLES: Final = 4000
"""Rows of a pair table."""
_NEAREST: Final = 0.4
"""Å, the shortest distance in the table."""


def write_potential(
    folder: Path,
    name: str,
    descriptor: SnapDescriptor,
    pairs: PairBasis,
    coefficients: Scalars,
    *,
    reference: Path | Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write NAME.snapcoeff, NAME.snapparam, NAME.table if there are pair functions, and NAME.in.

    Coefficients are (elements * columns + pairs.columns,). The fixed reference, as commands or a
    file of them, is overlaid; files named beside that file are copied. Notes head each file.

    Returns:
        NAME.in, for a `lammps` worker.

    Raises:
        ConfigError: the reference cannot be overlaid on the SNAP.
        ValueError: the number of coefficients does not fit.
    """
    fixed = read_pair_styles(reference, descriptor.elements)
    split = len(descriptor.elements) * descriptor.columns
    if len(coefficients) != split + pairs.columns:
        raise ValueError(
            f"{len(coefficients)} coefficients, expected {split} and {pairs.columns} of pairs"
        )
    head = "".join(f"# {note}\n" for note in notes)
    coeff, param, table = f"{name}.snapcoeff", f"{name}.snapparam", f"{name}.table"
    fixed.copy_files(folder, taken=(coeff, param, table, f"{name}.in"))
    (folder / coeff).write_text(head + _snapcoeff(descriptor, coefficients[:split]))
    (folder / param).write_text(head + _snapparam(descriptor))
    symbols = " ".join(descriptor.elements)
    parts = [PairStyle("snap", "", (("*", "*", f"{coeff} {param} {symbols}"),))]
    if pairs.columns:
        (folder / table).write_text(head + _table(pairs, coefficients[split:]))
        curves = tuple(
            (str(a + 1), str(b + 1), f"{table} {_keyword(pairs, a, b)} {pairs.cutoff!r}")
            for a, b in pairs.pairs
        )
        parts.append(PairStyle("table", f"spline {2 * _SAMPLES}", curves))
    labels = " ".join(f"{at + 1} {symbol}" for at, symbol in enumerate(descriptor.elements))
    file = folder / f"{name}.in"
    text = "\n".join([f"labelmap atom {labels}", *pair_commands([*parts, *fixed.parts])])
    file.write_text(f"{head}{text}\n")
    return file


def _snapcoeff(descriptor: SnapDescriptor, coefficients: Scalars) -> str:
    blocks = coefficients.reshape(len(descriptor.elements), descriptor.columns)
    lines = [f"{len(descriptor.elements)} {descriptor.columns}"]
    for at, symbol in enumerate(descriptor.elements):
        lines.append(f"{symbol} {descriptor.radii[at]:.17g} {descriptor.weights[at]:.17g}")
        lines += [f"{value:.17g}" for value in blocks[at]]
    return "\n".join(lines) + "\n"


def _snapparam(descriptor: SnapDescriptor) -> str:
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
        rows = io.StringIO()
        columns = np.column_stack([np.arange(1, len(r) + 1), r, energy, force])
        np.savetxt(rows, columns, fmt=("%d", "%.12g", "%.15g", "%.15g"))
        ends = f"{r[0]:.17g} {r[-1]:.17g}"
        text += f"\n{_keyword(pairs, a, b)}\nN {len(r)} R {ends}\n\n{rows.getvalue()}"
    return text
