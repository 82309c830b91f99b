"""Is a result an answer to its question? Knows shapes, finiteness and sums, not physics."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mixserver.arrays import Matrix, Scalars, Vectors
from mixserver.wire.worker import Evaluate, Result

_ROUNDING: Final = 1e-5
_SINGLE: Final = 2.0**-24
"""Rounding of one addition in single precision; a model may add up its sites one by one."""


def fault(question: Evaluate, result: Result) -> str:
    """What is wrong with a result, in words that follow "worker X"; "" if nothing is.

    That its arrays fit each other is checked when a `Result` is made; here they are held against
    what was asked.

    Args:
        question: what was asked.
        result: what came back.
    """
    n = len(question.positions)
    if len(result.forces) != n:
        return f"returned forces on {len(result.forces)} atoms, but was sent {n}"
    if not math.isfinite(result.energy):
        return f"returned an energy that is not finite ({result.energy})"
    if question.energies and result.energies is None:
        return "was asked for site energies but returned none"
    if question.criterion and result.values is None:
        return f"was asked for {question.criterion!r} but returned no values"
    for name, array in (
        ("forces", result.forces),
        ("site energies", result.energies),
        ("criterion values", result.values),
    ):
        if array is not None and not _all_finite(array):
            bad = ~np.isfinite(array.reshape(n, -1)).all(axis=1)
            return (
                f"returned {np.count_nonzero(bad)} {name} that are not finite "
                f"(first: atom {int(np.argmax(bad))})"
            )
    if not _all_finite(result.virial):
        return f"returned a virial that is not finite ({result.virial.tolist()})"
    if question.energies and question.weight is None and result.energies is not None:
        return _sum_fault(result.energy, result.energies)
    return ""


def _sum_fault(energy: float, energies: Scalars) -> str:
    """What is wrong with an energy of which all parts are known."""
    parts = float(energies.sum())
    relative = _ROUNDING + _SINGLE * len(energies)
    room = relative * float(np.abs(energies).sum()) + 1e-3
    if abs(energy - parts) <= room:
        return ""
    return (
        f"returned an energy of {energy:.9g} eV, but its {len(energies)} site energies add up to "
        f"{parts:.9g} eV (rounding explains {room:.2g} eV)"
    )


def _all_finite(array: Vectors | Scalars | Matrix) -> bool:
    """Whether no element is NaN or infinite; one pass without a temporary where all is well."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.add.reduce(array, axis=None))
    return math.isfinite(total) or bool(np.isfinite(array).all())
