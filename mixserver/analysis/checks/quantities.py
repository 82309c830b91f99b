"""The check of quantities in i-PI's input: missing units, implausible sizes, short timeouts."""

from __future__ import annotations

from typing import Final

from mixserver.analysis.checks.findings import Finding
from mixserver.config import Case
from mixserver.ipi.input import IpiInput
from mixserver.ipi.values import Quantity, physical_quantities

_SHORT_FS: Final = 0.05
_LONG_FS: Final = 20.0
"""Time steps beyond these are probably mistakes: hydrogen in path integrals needs 0.1 to 0.25 fs,
argon 10."""
_HOT_K: Final = 1e5
_NEED_UNITS: Final = frozenset({"time", "temperature", "pressure"})
"""Atomic units are seldom intended for these; tolerances and shifts are often in them."""


def quantity_findings(ipi: IpiInput) -> list[Finding]:
    """Values without a unit, and implausible time steps and temperatures, in an accepted input."""
    found = []
    for one in physical_quantities(ipi.file):
        if not one.unit and (one.dimension in _NEED_UNITS or one.tag == "cell"):
            words = (
                f"<{one.tag}> {' '.join(one.written.split())} </{one.tag}> has no unit, so "
                f"i-PI takes atomic units: {one.shown}; write units='{one.usual}' (or "
                "'atomic_unit', if that is intended)"
            )
            found.append(Finding("warning", one.tag, words))
        elif words := _implausible(one):
            found.append(Finding("warning", one.tag, f"<{one.tag}> is {one.shown}: {words}"))
    return found


def timeout_findings(case: Case, ipi: IpiInput, evaluation_s: float) -> list[Finding]:
    """Sockets on which i-PI gives up before an evaluation, of so many seconds, is done."""
    found = []
    for socket in ipi.sockets:
        if socket.as_upstream not in case.addresses or socket.timeout_s <= 0.0:
            continue
        batch = evaluation_s * socket.batch_size
        if 3.0 * batch > socket.timeout_s:
            words = (
                f"i-PI abandons a request on <ffsocket name='{socket.name}'> after "
                f"{socket.timeout_s:g} s and asks again, but an answer takes about "
                f"{batch:.2g} s here, and longer while a worker is replaced: raise <timeout>, "
                "or leave it out"
            )
            found.append(Finding("warning", "timeout", words))
    return found


def _implausible(one: Quantity) -> str:
    if one.tag == "timestep" and one.value > _LONG_FS:
        return "too long to integrate the motion of any atom; use a tenth of the fastest period"
    if one.tag == "timestep" and one.value < _SHORT_FS:
        return "so short that a run never ends; is the unit correct?"
    if one.dimension == "temperature" and one.value > _HOT_K:
        return "hotter than any model is valid for; is the unit correct?"
    return ""
