"""Whether a potential is good enough to mix with, and if not, what to change, in sentences.

The limits are those of `values`; settings are called by their names in distill.toml.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from mixserver.distill.report.values import (
    GHOST,
    OFF,
    STRAIN,
    beyond,
    elastic_error,
    finite,
    misfit,
    number,
    short,
    stable,
)
from mixserver.distill.results import Candidate, Result

BLEND = 4.0
"""Å, the blend by which ghost forces are judged."""


class Verdict(NamedTuple):
    """What to think of it."""

    worth: Literal["good", "care", "bad"]
    """"care": it can be used, and something must be watched or changed."""
    sentences: tuple[str, ...]
    """The first is the verdict, the others say why and what to change."""


def verdict(result: Result) -> Verdict:
    """Judge the first candidate, which is the one that was written."""
    one = result.candidates[0]
    bad, care = _unusable(one), _shortcomings(one, result)
    if bad:
        return Verdict("bad", ("Not fit to mix with.", *bad, *care))
    if care:
        return Verdict("care", ("Fit to mix with only with care.", *care))
    return Verdict(
        "good",
        (
            "Good enough to mix with: lattice, elastic constants and ghost forces agree with the "
            "expensive model within the limits of this report.",
        ),
    )


def _unusable(one: Candidate) -> list[str]:
    if one.portrait is None:
        why = f": {one.trouble}" if one.trouble else ""
        return [
            f"It has no crystal at rest{why}. Take more snapshots (soft.snapshots), or a larger "
            "potential.twojmax."
        ]
    words = []
    if stable(one.portrait) is False:
        words.append(
            "A phonon or a strain lowers the energy of its crystal: raise potential.twojmax or "
            "pair.functions, or take more snapshots (soft.snapshots)."
        )
    if any(finite(errors.forces) is None for errors in one.errors):
        words.append("Some of its force errors are not numbers: look at the notes and the log.")
    return words


def _shortcomings(one: Candidate, result: Result) -> list[str]:
    words = []
    if one.portrait is not None:
        apart, off = misfit(one.portrait, result.portrait), elastic_error(one, result.portrait)
        if apart is None or off is None:
            words.append("Its lattice or its elastic constants are not known; see the notes.")
        if beyond(apart, STRAIN):
            words.append(
                f"The lattices differ by {number(apart, 3)} %, which strains what is around a "
                'region: set hard.lattice = true, with hard.form = "exact".'
            )
        if beyond(off, OFF):
            words.append(
                f"Elastic constants are off by up to {number(off, 1)} %: set hard.elastic = true, "
                'with hard.form = "exact".'
            )
        if stable(one.portrait) is None:
            words.append("Whether its crystal is stable could not be told; see the notes.")
    if not one.errors:
        words.append(
            "There was nothing to tell its errors by: raise fit.validation or soft.snapshots."
        )
    return words + _ghosts(one)


def _ghosts(one: Candidate) -> list[str]:
    ghost = one.ghost(BLEND)
    if ghost is None or finite(ghost.largest) is None:
        return [
            "Its ghost forces are not known: look at them with mixserver check before energy "
            "mixing, or mix by forces."
        ]
    if ghost.largest <= GHOST:
        return []
    return [
        f"Ghost forces reach {short(ghost.largest)} eV/Å in a {BLEND:g} Å blend: use a wider "
        "blend, or dead loads where the region is frozen; or distil with a larger partition.price "
        "or pair.cutoff."
    ]
