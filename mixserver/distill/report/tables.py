"""The tables of a report: what was written, crystals, errors, ghost forces, the front, the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mixserver.distill.report.markup import Cell, Head, pairs, table
from mixserver.distill.report.values import (
    GHOST,
    NONE,
    OFF,
    STRAIN,
    beyond,
    by_temperature,
    constant_like,
    constants,
    deviation,
    elastic_error,
    finite,
    lattice_constant,
    misfit,
    number,
    short,
    signed,
)
from mixserver.distill.report.verdict import BLEND
from mixserver.distill.results import Candidate, Errors, Result

_BLENDS: Final = (0.0, 4.0, 8.0)
"""Å, that always have a column."""


def headline(result: Result) -> str:
    """What was written, in a dozen lines."""
    one, theirs = result.candidates[0], result.portrait
    rows = [
        ("files", Cell(", ".join(_files(result)))),
        ("elements", Cell(" ".join(result.elements))),
        (
            "expensive model",
            Cell(
                result.expensive,
                f"fingerprint {result.fingerprint}" if result.fingerprint else "",
            ),
        ),
        ("descriptors", _descriptor(one)),
        (
            "pair functions",
            Cell(str(one.pair_functions), f"up to {one.pair_cutoff:g} Å")
            if one.pair_functions
            else Cell("none"),
        ),
        ("coefficients", Cell(str(one.coefficients or NONE), f"{one.constraints} constraints")),
        (
            "weights",
            Cell(f"ghost forces {one.partition_weight:g}", f"ridge {one.ridge:g}"),
        ),
        ("cost (µs per atom, one thread, with energies)", _cost(one)),
        (
            "force error (eV/Å)",
            Cell(
                "; ".join(
                    f"{short(errors.forces)} {errors.of}"
                    for errors in sorted(one.errors, key=lambda errors: by_temperature(errors.of))
                )
            ),
        ),
        (_length_name(result), _length(one, result)),
    ]
    ours = constants(one.portrait, theirs)
    rows += [
        (f"{name} (GPa)", _compared(ours[name], value, 1))
        for name, value in constants(theirs, theirs).items()
    ]
    rows.append((f"largest ghost force, {BLEND:g} Å blend (eV/Å)", _ghost(one, BLEND)))
    return pairs(rows)


def crystals(result: Result, listed: Sequence[Candidate], strong: Sequence[str] = ()) -> str:
    """Cost and crystal of each candidate beside the expensive model's."""
    theirs = result.portrait
    elastic = constants(theirs, theirs)
    heads = ["µs per atom", "coefficients", _length_name(result)]
    heads += [*(f"{name} (GPa)" for name in elastic), "bulk modulus (GPa)", "largest of C"]
    heads += ["vacancy (eV)"]
    own_length = lattice_constant(theirs)
    first = [Cell(NONE), Cell(NONE), Cell(number(own_length or theirs.volume, 4))]
    first += [Cell(number(value, 1)) for value in elastic.values()]
    first += [Cell(number(theirs.bulk_modulus, 1)), Cell(NONE), Cell(number(theirs.vacancy, 2))]
    rows = [(f"{result.expensive} (expensive)", first)]
    for one in listed:
        seen = one.portrait
        ours, off = constants(seen, theirs), elastic_error(one, theirs)
        cells = [_cost(one), _coefficients(one), _length(one, result)]
        cells += [_compared(ours[name], value, 1) for name, value in elastic.items()]
        cells += [
            _compared(None if seen is None else seen.bulk_modulus, theirs.bulk_modulus, 1),
            Cell(NONE if off is None else f"{off:.2f} %", marked=beyond(off, OFF)),
            Cell(number(None if seen is None else seen.vacancy, 2)),
        ]
        rows.append((one.label, cells))
    caption = (
        "Cost and crystal at rest. In smaller type: deviation from the expensive model. Marked: "
        f"beyond {OFF:g} % (a length beyond {STRAIN:g} %)."
    )
    return table(caption, [[Head("")] + [Head(text) for text in heads]], rows, strong=strong)


def interfaces(listed: Sequence[Candidate], strong: Sequence[str] = ()) -> str:
    """What mixing feels of the two models' differences."""
    blends = sorted({*_BLENDS, *(ghost.blend for one in listed for ghost in one.ghosts)})
    top = [Head(""), Head("largest ghost force (eV/Å)", len(blends))]
    top += [Head("site energies e − c (eV)"), Head("strain error of an inclusion")]
    heads = [Head(""), *(Head(f"{b:g} Å blend" if b else "abrupt end") for b in blends)]
    heads += [Head("rms"), Head("of the strain applied")]
    rows = []
    for one in listed:
        cells = [_ghost(one, blend) for blend in blends]
        inclusion = finite(one.inclusion)
        cells.append(Cell(short(one.spread)))
        cells.append(Cell(NONE if inclusion is None else f"{short(100.0 * inclusion)} %"))
        rows.append((one.label, cells))
    cores = sorted({ghost.core for one in listed for ghost in one.ghosts})
    around = f" of {' and '.join(f'{core:g}' for core in cores)} Å" if cores else ""
    caption = (
        f"Where the two models meet. Ghost forces: around a spherical core{around} in the perfect "
        "crystal, in smaller type their root mean square over the blend; marked beyond "
        f"{GHOST:g} eV/Å with a blend of {BLEND:g} Å or more. Forces by gradients of λ are the "
        "spread of e − c times the slope of λ. The inclusion: a sphere of the expensive crystal, "
        "energies mixed with dead loads, in a cell sheared by 1 %; other elastic constants bend "
        "its strain, and so do ghost forces that change with strain."
    )
    return table(caption, [top, heads], rows, strong=strong)


def error_table(listed: Sequence[Candidate], strong: Sequence[str] = ()) -> str:
    """Errors by kind and temperature; empty if none are known."""
    kinds = sorted({errors.of for one in listed for errors in one.errors}, key=by_temperature)
    if not kinds:
        return ""
    measures: tuple[tuple[str, Callable[[Errors], float]], ...] = (
        ("F", lambda e: e.forces),
        ("E", lambda e: 1e3 * e.energy),
        ("W", lambda e: 1e3 * e.virial),
    )
    top = [Head(""), *(Head(of + _count(listed, of), len(measures)) for of in kinds)]
    heads = [Head(""), *(Head(name) for _ in kinds for name, _ in measures)]
    rows = []
    for one in listed:
        found = {errors.of: errors for errors in one.errors}
        cells = [
            Cell(short(measure(found[of])) if of in found else NONE)
            for of in kinds
            for _, measure in measures
        ]
        rows.append((one.label, cells))
    caption = (
        "Root mean square errors of structures that were not fitted: forces F in eV/Å (of "
        "components), energies E and virials W in meV per atom; in brackets, of how many "
        "structures."
    )
    return table(caption, [top, heads], rows, strong=strong)


def _count(listed: Sequence[Candidate], of: str) -> str:
    """How many structures errors are of, in brackets."""
    counts = {e.structures for one in listed for e in one.errors if e.of == of} - {0}
    return f" ({', '.join(str(count) for count in sorted(counts))})" if counts else ""


def phonon_table(result: Result) -> str:
    """Frequencies at special points; empty if none are known."""
    points = list(result.portrait.phonons)
    if not points:
        return ""

    def told(values: Sequence[float]) -> Cell:
        return Cell(", ".join(number(value, 2) for value in values))

    rows = [(result.expensive, [told(result.portrait.phonons[point]) for point in points])]
    rows += [
        (one.label, [told(one.portrait.phonons.get(point, [])) for point in points])
        for one in result.candidates
        if one.portrait is not None
    ]
    heads = [Head(""), *(Head("Γ" if point == "G" else point) for point in points)]
    return table("Frequencies in THz; below 0 where imaginary.", [heads], rows)


def front_table(result: Result) -> str:
    """All weights that were tried; empty if none were."""
    if not result.front:
        return ""
    rows = [
        (f"{p.weight:g}", [Cell(short(p.forces)), Cell(short(p.ghost))])
        for p in sorted(result.front, key=lambda p: p.weight)
    ]
    heads = [Head("weight"), Head("force error (eV/Å)"), Head("ghost force (eV/Å)")]
    chosen = [f"{p.weight:g}" for p in result.front if p.chosen]
    return table(
        "Force errors of the validation set, ghost forces (rms) of the regions that were fitted. "
        "In bold: the weight that was chosen.",
        [heads],
        rows,
        strong=chosen,
    )


def trials(result: Result) -> str:
    """What became of the crystal in the potential's own dynamics, fit by fit."""
    rows = []
    for number_, trial in enumerate(result.trials, 1):
        broke = [f"{when:.2g}" for when in trial.broke if when is not None]
        cells = [
            Cell(f"{trial.held} of {len(trial.broke)}", marked=bool(broke)),
            Cell(", ".join(broke) or NONE),
            Cell(str(trial.frames) if trial.frames else NONE),
        ]
        rows.append((f"fit {number_}", cells))
    first = result.trials[0]
    caption = (
        f"The crystal moved by the potential itself, at {first.temperature:g} K for {first.ps:g} "
        "ps. It breaks when an atom leaves its site for farther than any did in the expensive "
        "model's dynamics. Frames of that were labelled and fitted along with the others."
    )
    heads = [Head(""), Head("held"), Head("broke after (ps)"), Head("frames fitted next")]
    return table(caption, [heads], rows, strong=[rows[-1][0]])


def times(result: Result) -> str:
    """Wall time of each step."""
    rows = [(step, [Cell(number(seconds, 1))]) for step, seconds in result.seconds.items()]
    known = [seconds for s in result.seconds.values() if (seconds := finite(s)) is not None]
    rows.append(("together", [Cell(number(sum(known), 1))]))
    return table(
        "Wall time in seconds.",
        [[Head("step"), Head("s")]],
        rows,
        strong=["together"],
    )


def _files(result: Result) -> list[str]:
    names = ["in", "snapcoeff", "snapparam"]
    names += ["table"] if result.candidates[0].pair_functions else []
    return [f"{result.name}.{name}" for name in names]


def _descriptor(one: Candidate) -> Cell:
    if one.descriptor is None:
        return Cell(NONE)
    d = one.descriptor
    beside = ["quadratic"] if d.quadratic else []
    if len(d.elements) > 1:
        beside.append(f"radii {_list(d.radii)}, weights {_list(d.weights)}")
    return Cell(f"2J = {d.twojmax}, cutoff {d.cutoff:g} Å", ", ".join(beside))


def _list(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _cost(one: Candidate) -> Cell:
    error = finite(one.microseconds_error)
    known = finite(one.microseconds) is not None and error
    return Cell(number(one.microseconds, 1), f"± {number(error, 1)}" if known else "")


def _coefficients(one: Candidate) -> Cell:
    if not one.coefficients:
        return Cell(NONE)
    return Cell(str(one.coefficients), f"{one.constraints} fixed" if one.constraints else "")


def _length_name(result: Result) -> str:
    cubic = lattice_constant(result.portrait) is not None
    return "lattice constant (Å)" if cubic else "volume (Å³ per atom)"


def _length(one: Candidate, result: Result) -> Cell:
    off = misfit(one.portrait, result.portrait)
    value = constant_like(one.portrait, result.portrait)
    told = signed(off, " %")
    if lattice_constant(result.portrait) is None:
        value = None if one.portrait is None else one.portrait.volume
        told = f"{told} of length" if told else ""
    return Cell(number(value, 4), told, beyond(off, STRAIN))


def _compared(ours: float | None, theirs: float | None, digits: int) -> Cell:
    off = deviation(ours, theirs)
    return Cell(number(ours, digits), signed(off), beyond(off, OFF))


def _ghost(one: Candidate, blend: float) -> Cell:
    found = one.ghost(blend)
    if found is None:
        return Cell(NONE)
    rms = f"rms {short(found.rms)}" if finite(found.rms) is not None else ""
    return Cell(short(found.largest), rms, blend >= BLEND and beyond(finite(found.largest), GHOST))
