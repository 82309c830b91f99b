"""Numbers in i-PI's input that are not what they look like: no unit, or a size that is a slip."""

from __future__ import annotations

from typing import Final

from mixserver.checks.findings import Finding
from mixserver.config import Case
from mixserver.ipi_input import IpiInput
from mixserver.ipi_values import Quantity, quantities

_SHORT_FS: Final = 0.05
_LONG_FS: Final = 20.0
"""Beyond these a time step is more likely a slip than a wish: hydrogen in path integrals takes 0.1
to 0.25 fs, argon 10."""
_HOT_K: Final = 1e5
_NEED_UNITS: Final = frozenset({"time", "temperature", "pressure"})
"""Atomic units are hardly ever meant there; tolerances and shifts are often written in them."""


def quantity_findings(ipi: IpiInput) -> list[Finding]:
    """Values without a unit, and time steps and temperatures out of any proportion.

    Args:
        ipi: the input; i-PI must have accepted it.
    """
    found = []
    for one in quantities(ipi.file):
        if not one.unit and (one.dimension in _NEED_UNITS or one.tag == "cell"):
            found.append(
                Finding(
                    "warning",
                    one.tag,
                    f"<{one.tag}> {' '.join(one.written.split())} </{one.tag}> has no unit, so "
                    f"i-PI takes atomic units: {one.shown}; write units='{one.usual}' (or "
                    "'atomic_unit', if that is meant)",
                )
            )
        elif words := _absurd(one):
            found.append(Finding("warning", one.tag, f"<{one.tag}> is {one.shown}: {words}"))
    return found


def timeout_findings(case: Case, ipi: IpiInput, evaluation_s: float) -> list[Finding]:
    """Sockets on which i-PI gives up before an evaluation is done.

    Args:
        case: the case.
        ipi: the input.
        evaluation_s: seconds that one evaluation is expected to take.
    """
    found = []
    for socket in ipi.sockets:
        if socket.as_upstream not in case.addresses or socket.timeout_s <= 0.0:
            continue
        batch = evaluation_s * socket.batch_size
        if 3.0 * batch > socket.timeout_s:
            found.append(
                Finding(
                    "warning",
                    "timeout",
                    f"i-PI gives up a request on <ffsocket name='{socket.name}'> after "
                    f"{socket.timeout_s:g} s and asks again, but an answer takes about "
                    f"{batch:.2g} s here, and longer while a worker is replaced: raise <timeout>, "
                    "or leave it out",
                )
            )
    return found


def _absurd(one: Quantity) -> str:
    if one.tag == "timestep" and one.value > _LONG_FS:
        return "no atom can be followed with that; the fastest vibrations want a tenth of a period"
    if one.tag == "timestep" and one.value < _SHORT_FS:
        return "so short a step makes a run endless; is the unit the one you mean?"
    if one.dimension == "temperature" and one.value > _HOT_K:
        return "hotter than any model was made for; is the unit the one you mean?"
    return ""
