"""Tables of a report as values, and the cells that several tables share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mixserver.analysis.checks.ghost_forces import NEGLIGIBLE
from mixserver.distill.report.values import (
    NONE,
    OFF,
    STRAIN,
    beyond,
    constant_like,
    deviation,
    finite,
    lattice_constant,
    misfit,
    number,
    short,
    signed,
)
from mixserver.distill.results import JUDGED_BLEND, Candidate, Result


class Cell(NamedTuple):
    """One cell of a table."""

    text: str
    beside: str = ""
    """In smaller type after it: a deviation, an error bar."""
    marked: bool = False
    """Beyond its limit."""


class Head(NamedTuple):
    """One heading, over some columns."""

    text: str
    columns: int = 1


class Table(NamedTuple):
    """A table of the page."""

    rows: Sequence[tuple[str, Sequence[Cell]]]
    """Name and cells."""
    caption: str = ""
    heads: Sequence[Sequence[Head]] = ()
    """Rows of headings; the first of each stands over the rows' names."""
    strong: Sequence[str] = ()
    """Names of rows that stand out."""


def descriptor_cell(one: Candidate) -> Cell:
    """Resolution and cutoff of the SNAP."""
    if one.descriptor is None:
        return Cell(NONE)
    d = one.descriptor
    beside = ["quadratic"] if d.quadratic else []
    if len(d.elements) > 1:
        beside.append(f"radii {_list(d.radii)}, weights {_list(d.weights)}")
    return Cell(f"2J = {d.twojmax}, cutoff {d.cutoff:g} Å", ", ".join(beside))


def _list(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def cost_cell(one: Candidate) -> Cell:
    """Microseconds per atom, with the error."""
    error = finite(one.microseconds_error)
    known = finite(one.microseconds) is not None and error
    return Cell(number(one.microseconds, 1), f"± {number(error, 1)}" if known else "")


def coefficients_cell(one: Candidate) -> Cell:
    """Number of coefficients, and of those that constraints fix."""
    if not one.coefficients:
        return Cell(NONE)
    return Cell(str(one.coefficients), f"{one.constraints} fixed" if one.constraints else "")


def length_name(result: Result) -> str:
    """Heading of `length_cell`."""
    cubic = lattice_constant(result.bulk) is not None
    return "lattice constant (Å)" if cubic else "volume (Å³ per atom)"


def length_cell(one: Candidate, result: Result) -> Cell:
    """Lattice constant, or volume where there is none, with its deviation."""
    off = misfit(one.bulk, result.bulk)
    value = constant_like(one.bulk, result.bulk)
    beside = signed(off, " %")
    if lattice_constant(result.bulk) is None:
        value = None if one.bulk is None else one.bulk.volume
        beside = f"{beside} of length" if beside else ""
    return Cell(number(value, 4), beside, beyond(off, STRAIN))


def compared_cell(ours: float | None, theirs: float | None, digits: int) -> Cell:
    """A value with its deviation from the expensive model."""
    off = deviation(ours, theirs)
    return Cell(number(ours, digits), signed(off), beyond(off, OFF))


def ghost_cell(one: Candidate, blend: float) -> Cell:
    """Largest ghost force for a blend, with the rms."""
    found = one.ghost(blend)
    if found is None:
        return Cell(NONE)
    rms = f"rms {short(found.rms)}" if finite(found.rms) is not None else ""
    return Cell(
        short(found.largest),
        rms,
        blend >= JUDGED_BLEND and beyond(finite(found.largest), NEGLIGIBLE),
    )
