"""The verdict on a potential: pass, warn or fail, with reasons and the settings to change.

The limits are in `values`; settings have their names in distill.toml.
"""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

from mixserver.analysis.checks.ghost_forces import NEGLIGIBLE
from mixserver.distill.report.values import (
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
from mixserver.distill.results import JUDGED_BLEND, Candidate, Result

_COSTLY: Final = 4.0
"""Ratio of force errors with and without constraints, above which constraints are to blame."""


class Verdict(NamedTuple):
    """Grade and reasons."""

    grade: Literal["pass", "warn", "fail"]
    """"warn": usable, with shortcomings to watch or to change."""
    sentences: tuple[str, ...]
    """First the verdict, then reasons and settings to change."""


def verdict(result: Result) -> Verdict:
    """The verdict on the first candidate, which is the written potential."""
    one = result.candidates[0]
    failures, warnings = _failures(one, result), _warnings(one, result)
    if failures:
        return Verdict("fail", ("Fail: not fit to mix with.", *failures, *warnings))
    if warnings:
        return Verdict("warn", ("Warn: fit to mix with, with shortcomings.", *warnings))
    return Verdict(
        "pass",
        (
            "Pass: lattice, elastic constants and ghost forces agree with the "
            "expensive model within the limits of this report.",
        ),
    )


def _failures(one: Candidate, result: Result) -> list[str]:
    remedy = _remedy(one, result)
    if one.bulk is None:
        why = f": {one.trouble}" if one.trouble else ""
        return [f"It has no stable crystal{why}. {remedy}"]
    words = []
    if stable(one.bulk) is False:
        words.append(f"A phonon or a strain lowers the energy of its crystal. {remedy}")
    if any(finite(errors.forces) is None for errors in one.errors):
        words.append("Some of its force errors are not finite: see the notes and the log.")
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
            f"Its force error is {short(error)} eV/Å for {of}, larger than the forces themselves "
            f"({short(size)} eV/Å, rms). {remedy}"
        )
    return words


def _forces(result: Result, of: str) -> float | None:
    """The rms (eV/Å) of the expensive model's forces in the test structures of a kind."""
    for one in result.parity:
        if one.of == of and one.forces[0]:
            return finite(math.sqrt(sum(f * f for f in one.forces[0]) / len(one.forces[0])))
    return None


def _remedy(one: Candidate, result: Result) -> str:
    """The settings to change if the potential is not flexible enough."""
    if result.trained:
        return (
            "Train longer, raise agreement.energy and agreement.forces, take more bulk structures "
            "(soft.snapshots, soft.strained), or a larger network (small.options)."
        )
    now = f"potential.twojmax (now {one.descriptor.twojmax}), " if one.descriptor else ""
    now += f"potential.cutoff (now {one.descriptor.cutoff:g} Å) " if one.descriptor else ""
    now += f"or pair.functions (now {one.pair_functions})"
    free = next((other for other in result.candidates[1:] if not other.constraints), None)
    if one.constraints and free is not None and free.descriptor is not None:
        mine = max((errors.forces for errors in one.errors), default=0.0)
        theirs = max((errors.forces for errors in free.errors), default=0.0)
        if mine > _COSTLY * theirs:
            return (
                f"It is not flexible enough for the constraints: without them its largest force "
                f"error is {short(theirs)} eV/Å instead of {short(mine)}. Raise {now}."
            )
    return f"Raise {now}, or take more snapshots (soft.snapshots)."


def _warnings(one: Candidate, result: Result) -> list[str]:
    words = []
    if one.bulk is not None:
        apart, off = misfit(one.bulk, result.bulk), elastic_error(one, result.bulk)
        if apart is None or off is None:
            words.append("Its lattice or its elastic constants are unknown; see the notes.")
        if beyond(apart, STRAIN):
            words.append(
                f"The lattices differ by {number(apart, 3)} %, which strains the surroundings of a "
                f"region: {_pin('lattice', one, result)}"
            )
        if beyond(off, OFF):
            words.append(
                f"Elastic constants deviate by up to {number(off, 1)} %: "
                f"{_pin('elastic', one, result)}"
            )
        if stable(one.bulk) is None:
            words.append("The stability of its crystal is unknown; see the notes.")
    if not one.errors:
        words.append("It has no test structures: raise fit.validation or soft.snapshots.")
    return words + _instability(result) + _ghosts(one, result)


def _instability(result: Result) -> list[str]:
    if not result.trials or not (broke := [w for w in result.trials[-1].broke if w is not None]):
        return []
    last = result.trials[-1]
    return [
        "Its crystal is not stable in MD: at "
        f"{last.temperature:g} K an atom left its site for good in {len(broke)} of "
        f"{len(last.broke)} trajectories, first after {min(broke):.2g} ps. "
        + (
            "Add a hotter one to soft.temperatures, or stay well below that temperature."
            if result.trained
            else "Raise hold.rounds, set potential.quadratic = true, raise pair.cutoff and "
            "pair.functions, or stay well below that temperature."
        )
    ]


def _pin(what: str, one: Candidate, result: Result) -> str:
    """How to make lattice or elastic constants agree."""
    if result.trained:
        return _remedy(one, result)
    if what not in result.pinned:
        return f'set hard.{what} = true, with hard.form = "exact".'
    return (
        f"hard.{what} constrained them, but the potential deviates in LAMMPS: its crystal relaxes "
        f"elsewhere, or large terms cancel. {_remedy(one, result)}"
    )


def _ghosts(one: Candidate, result: Result) -> list[str]:
    ghost = one.ghost(JUDGED_BLEND)
    if ghost is None or finite(ghost.largest) is None:
        return [
            "Its ghost forces are unknown: run mixserver check before mixing energies, or mix "
            "forces."
        ]
    if ghost.largest <= NEGLIGIBLE:
        return []
    return [
        f"Ghost forces reach {short(ghost.largest)} eV/Å in a {JUDGED_BLEND:g} Å blend: use a "
        "wider blend, or dead loads where the region is frozen; or "
        + (
            "try a larger agreement.energy, and compare with the control."
            if result.trained
            else "distill with a larger partition.price or pair.cutoff."
        )
    ]
