"""Whether a potential is good enough to mix with, and if not, what to change, in sentences.

The limits are those of `values`; settings are called by their names in distill.toml.
"""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

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

BLEND: Final = 4.0
"""Å, the blend by which ghost forces are judged."""
_COSTLY: Final = 4.0
"""Times the force error without constraints; they cost far less where they can be held."""


class Verdict(NamedTuple):
    """What to think of it."""

    worth: Literal["good", "care", "bad"]
    """"care": it can be used, and something must be watched or changed."""
    sentences: tuple[str, ...]
    """The first is the verdict, the others say why and what to change."""


def verdict(result: Result) -> Verdict:
    """Judge the first candidate, which is the one that was written."""
    one = result.candidates[0]
    bad, care = _unusable(one, result), _shortcomings(one, result)
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


def _unusable(one: Candidate, result: Result) -> list[str]:
    cure = _cure(one, result)
    if one.portrait is None:
        why = f": {one.trouble}" if one.trouble else ""
        return [f"It has no crystal at rest{why}. {cure}"]
    words = []
    if stable(one.portrait) is False:
        words.append(f"A phonon or a strain lowers the energy of its crystal. {cure}")
    if any(finite(errors.forces) is None for errors in one.errors):
        words.append("Some of its force errors are not numbers: look at the notes and the log.")
    wild = [
        (errors.forces, errors.of, size)
        for errors in one.errors
        if finite(errors.forces) is not None
        and (size := _forces(result, errors.of)) is not None
        and errors.forces > size
    ]
    if wild:
        error, of, size = max(wild)
        words.append(
            f"Its forces are off by {short(error)} eV/Å in {of}, where the forces themselves are "
            f"{short(size)} eV/Å (rms). {cure}"
        )
    return words


def _forces(result: Result, of: str) -> float | None:
    """eV/Å, rms of the expensive model's forces in the test structures of a kind."""
    for one in result.parity:
        if one.of == of and one.forces[0]:
            return finite(math.sqrt(sum(f * f for f in one.forces[0]) / len(one.forces[0])))
    return None


def _cure(one: Candidate, result: Result) -> str:
    """What to change about a potential that cannot do what is asked of it."""
    now = f"potential.twojmax (now {one.descriptor.twojmax}), " if one.descriptor else ""
    now += f"potential.cutoff (now {one.descriptor.cutoff:g} Å) " if one.descriptor else ""
    now += f"or pair.functions (now {one.pair_functions})"
    free = next((other for other in result.candidates[1:] if not other.constraints), None)
    if one.constraints and free is not None and free.descriptor is not None:
        mine = max((errors.forces for errors in one.errors), default=0.0)
        theirs = max((errors.forces for errors in free.errors), default=0.0)
        if mine > _COSTLY * theirs:
            return (
                f"The constraints are what it cannot hold: without them its largest force error is "
                f"{short(theirs)} eV/Å instead of {short(mine)}. Raise {now}."
            )
    return f"Raise {now}, or take more snapshots (soft.snapshots)."


def _shortcomings(one: Candidate, result: Result) -> list[str]:
    words = []
    if one.portrait is not None:
        apart, off = misfit(one.portrait, result.portrait), elastic_error(one, result.portrait)
        if apart is None or off is None:
            words.append("Its lattice or its elastic constants are not known; see the notes.")
        if beyond(apart, STRAIN):
            words.append(
                f"The lattices differ by {number(apart, 3)} %, which strains what is around a "
                f"region: {_pin('lattice', one, result)}"
            )
        if beyond(off, OFF):
            words.append(
                f"Elastic constants are off by up to {number(off, 1)} %: "
                f"{_pin('elastic', one, result)}"
            )
        if stable(one.portrait) is None:
            words.append("Whether its crystal is stable could not be told; see the notes.")
    if not one.errors:
        words.append(
            "There was nothing to tell its errors by: raise fit.validation or soft.snapshots."
        )
    return words + _holds(result) + _ghosts(one)


def _holds(result: Result) -> list[str]:
    if not result.trials or not (broke := [w for w in result.trials[-1].broke if w is not None]):
        return []
    last = result.trials[-1]
    return [
        "Its crystal does not hold in its own dynamics: at "
        f"{last.temperature:g} K an atom left its site for good in {len(broke)} of "
        f"{len(last.broke)} trajectories, first after {min(broke):.2g} ps. Raise hold.rounds, set "
        "potential.quadratic = true, raise pair.cutoff and pair.functions, or stay well below that "
        "temperature."
    ]


def _pin(what: str, one: Candidate, result: Result) -> str:
    """How to make them agree."""
    if what not in result.pinned:
        return f'set hard.{what} = true, with hard.form = "exact".'
    return (
        f"hard.{what} pinned them, and the potential run by LAMMPS does not keep to it, since its "
        f"crystal rests elsewhere or terms much larger than their sum cancel. {_cure(one, result)}"
    )


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
