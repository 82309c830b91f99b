r"""Whether two workers of a role agree on a job, up to the rounding of their precision.

Two honest workers differ in the order of their sums: other neighbour lists, another number of ranks
or threads, another GPU. With :math:`u` the unit roundoff of the card's dtype, the upper half of the
digits must agree, :math:`r = \sqrt u` (1e-8 in double, 2.4e-4 in single precision):

.. math::
    |\Delta f| \le r f, \quad
    |\Delta e_i| \le r \max(1\,\mathrm{eV}, |e|_\infty), \quad
    |\Delta E| \le (r / \sqrt n + u \sqrt n) \max(n\,\mathrm{eV}, |E|), \quad
    |\Delta W| \le r \max(10\,\mathrm{Å} \sqrt n f, |W|_\infty)

with :math:`f = \max(1\,\mathrm{eV/Å}, |f|_\infty)`. Errors of n sites add up as a random walk,
which gives :math:`\sqrt n r` for n sites of 1 eV; :math:`u \sqrt n |E|` is from the sum itself.
Values of a criterion are not compared: a neighbour at the cutoff is counted or not.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.wire.worker import Result

_ROUNDOFF: Final = {"float64": 2.0**-53, "float32": 2.0**-24}
_COARSE: Final = 2.0**-11
"""Of half precision and TF32; assumed of what is not known."""
_REACH: Final = 10.0
"""Å. Arm of the forces in a virial: beyond the cutoff of most models."""


def disagreement(first: Result, second: Result, dtype: str) -> str:
    """What two results of one job differ in beyond rounding, in words; "" if they agree.

    Args:
        first: one result, validated.
        second: the other, of the same job.
        dtype: the precision of both, as the model card has it.
    """
    roundoff = _ROUNDOFF.get(dtype, _COARSE)
    relative, n = math.sqrt(roundoff), max(1, len(first.forces))
    force = max(1.0, _largest(first.forces), _largest(second.forces))
    energy = max(float(n), abs(first.energy), abs(second.energy))
    virial = max(_REACH * math.sqrt(n) * force, _largest(first.virial), _largest(second.virial))
    words = [
        _words(
            "energies",
            "eV",
            abs(first.energy - second.energy),
            (relative / math.sqrt(n) + roundoff * math.sqrt(n)) * energy,
        ),
        _words("forces", "eV/Å", _largest(first.forces - second.forces), relative * force),
        _words("virials", "eV", _largest(first.virial - second.virial), relative * virial),
    ]
    if first.energies is not None and second.energies is not None:
        site = max(1.0, _largest(first.energies), _largest(second.energies))
        difference = _largest(first.energies - second.energies)
        words.append(_words("site energies", "eV", difference, relative * site))
    return ", ".join(filter(None, words))


def _words(what: str, unit: str, difference: float, allowed: float) -> str:
    if difference <= allowed:
        return ""
    return f"{what} by {difference:.3g} {unit} (rounding explains {allowed:.2g})"


def _largest(array: Vectors | Matrix | Scalars) -> float:
    return float(np.abs(array).max(initial=0.0))
