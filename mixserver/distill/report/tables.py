"""The tables of a report: summary, crystals, interfaces, errors, phonons, stability, times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mixserver.analysis.checks.ghost_forces import NEGLIGIBLE
from mixserver.distill.report.cells import (
    Cell,
    Head,
    Table,
    coefficients_cell,
    compared_cell,
    cost_cell,
    descriptor_cell,
    ghost_cell,
    length_cell,
    length_name,
)
from mixserver.distill.report.values import (
    NONE,
    OFF,
    STRAIN,
    beyond,
    by_temperature,
    constants,
    elastic_error,
    finite,
    lattice_constant,
    number,
    short,
)
from mixserver.distill.results import JUDGED_BLEND, REPORTED_BLENDS, Candidate, Errors, Result


def headline(result: Result) -> Table:
    """Summary of the written potential."""
    one, theirs = result.candidates[0], result.bulk
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
        *([] if result.trained else _fitted(one)),
        ("cost (µs per atom, one thread, with energies)", cost_cell(one)),
        (
            "force error (eV/Å)",
            Cell(
                "; ".join(
                    f"{short(errors.forces)} {errors.of}"
                    for errors in sorted(one.errors, key=lambda errors: by_temperature(errors.of))
                )
            ),
        ),
        (length_name(result), length_cell(one, result)),
    ]
    ours = constants(one.bulk, theirs)
    rows += [
        (f"{name} (GPa)", compared_cell(ours[name], value, 1))
        for name, value in constants(theirs, theirs).items()
    ]
    rows.append(
        (f"largest ghost force, {JUDGED_BLEND:g} Å blend (eV/Å)", ghost_cell(one, JUDGED_BLEND))
    )
    return Table([(name, [cell]) for name, cell in rows])


def _files(result: Result) -> list[str]:
    """Names of the files of the written potential."""
    if result.trained:
        return [f"{result.name}-small.model", f"{result.name}-large.model"]
    suffixes = ["in", "snapcoeff", "snapparam"]
    suffixes += ["table"] if result.candidates[0].pair_functions else []
    return [f"{result.name}.{suffix}" for suffix in suffixes]


def _fitted(one: Candidate) -> list[tuple[str, Cell]]:
    """What was fitted, of a distilled potential."""
    return [
        ("descriptors", descriptor_cell(one)),
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
    ]


def crystals(result: Result, listed: Sequence[Candidate], strong: Sequence[str] = ()) -> Table:
    """Cost and bulk properties of each candidate beside the expensive model's."""
    theirs = result.bulk
    elastic = constants(theirs, theirs)
    heads = ["µs per atom", "coefficients", length_name(result)]
    heads += [*(f"{name} (GPa)" for name in elastic), "bulk modulus (GPa)"]
    heads += ["largest deviation of C"]
    heads += ["vacancy (eV)"]
    own_length = lattice_constant(theirs)
    first = [Cell(NONE), Cell(NONE), Cell(number(own_length or theirs.volume, 4))]
    first += [Cell(number(value, 1)) for value in elastic.values()]
    first += [Cell(number(theirs.bulk_modulus, 1)), Cell(NONE), Cell(number(theirs.vacancy, 2))]
    rows = [(f"{result.expensive} (expensive)", first)]
    for one in listed:
        seen = one.bulk
        ours, off = constants(seen, theirs), elastic_error(one, theirs)
        cells = [cost_cell(one), coefficients_cell(one), length_cell(one, result)]
        cells += [compared_cell(ours[name], value, 1) for name, value in elastic.items()]
        cells += [
            compared_cell(None if seen is None else seen.bulk_modulus, theirs.bulk_modulus, 1),
            Cell(NONE if off is None else f"{off:.2f} %", marked=beyond(off, OFF)),
            Cell(number(None if seen is None else seen.vacancy, 2)),
        ]
        rows.append((one.label, cells))
    caption = (
        "Cost and bulk properties. In smaller type: deviations from the expensive model. Marked: "
        f"beyond {OFF:g} % (lengths: beyond {STRAIN:g} %)."
    )
    return Table(rows, caption, [[Head(""), *map(Head, heads)]], strong)


def interfaces(listed: Sequence[Candidate], strong: Sequence[str] = ()) -> Table:
    """Ghost forces, site energies and strain errors where the two models meet."""
    blends = sorted({*REPORTED_BLENDS, *(ghost.blend for one in listed for ghost in one.ghosts)})
    top = [Head(""), Head("largest ghost force (eV/Å)", len(blends))]
    top += [Head("site energies e − c (eV)"), Head("strain error of the inclusion")]
    heads = [Head(""), *(Head(f"{b:g} Å blend" if b else "no blend") for b in blends)]
    heads += [Head("rms"), Head("of the applied strain")]
    rows = []
    for one in listed:
        cells = [ghost_cell(one, blend) for blend in blends]
        inclusion = finite(one.inclusion)
        cells.append(Cell(short(one.spread)))
        cells.append(Cell(NONE if inclusion is None else f"{short(100.0 * inclusion)} %"))
        rows.append((one.label, cells))
    cores = sorted({ghost.core for one in listed for ghost in one.ghosts})
    around = f" of {' and '.join(f'{core:g}' for core in cores)} Å" if cores else ""
    caption = (
        f"Where the two models meet. Ghost forces: around a spherical core{around} in the perfect "
        "crystal; in smaller type their root mean square over the blend; marked beyond "
        f"{NEGLIGIBLE:g} eV/Å with a blend of {JUDGED_BLEND:g} Å or more. Forces from gradients of "
        "λ: the spread of e − c times the slope of λ. Inclusion: a sphere of the expensive "
        "crystal, energies mixed with dead loads, in a cell sheared by 1 %; differing elastic "
        "constants and ghost forces that change with strain disturb its strain."
    )
    return Table(rows, caption, [top, heads], strong)


def error_table(listed: Sequence[Candidate], strong: Sequence[str] = ()) -> Table | None:
    """Errors by kind and temperature; None if none are known."""
    kinds = sorted({errors.of for one in listed for errors in one.errors}, key=by_temperature)
    if not kinds:
        return None
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
        "Root mean square errors of structures that were not fitted: forces F in eV/Å (per "
        "component), energies E and virials W in meV per atom; in brackets, the number of "
        "structures."
    )
    return Table(rows, caption, [top, heads], strong)


def _count(listed: Sequence[Candidate], of: str) -> str:
    """The number of test structures of a kind, in brackets."""
    counts = {e.structures for one in listed for e in one.errors if e.of == of} - {0}
    return f" ({', '.join(str(count) for count in sorted(counts))})" if counts else ""


def phonon_table(result: Result) -> Table | None:
    """Phonon frequencies at special points; None if none are known."""
    points = list(result.bulk.phonons)
    if not points:
        return None

    def frequencies(values: Sequence[float]) -> Cell:
        return Cell(", ".join(number(value, 2) for value in values))

    rows = [(result.expensive, [frequencies(result.bulk.phonons[point]) for point in points])]
    rows += [
        (one.label, [frequencies(one.bulk.phonons.get(point, [])) for point in points])
        for one in result.candidates
        if one.bulk is not None
    ]
    heads = [Head(""), *(Head("Γ" if point == "G" else point) for point in points)]
    return Table(rows, "Frequencies in THz; imaginary ones are negative.", [heads])


def front_table(result: Result) -> Table | None:
    """All weights of the partition rows; None if there are none."""
    if not result.front:
        return None
    rows = [
        (f"{p.weight:g}", [Cell(short(p.forces)), Cell(short(p.ghost))])
        for p in sorted(result.front, key=lambda p: p.weight)
    ]
    heads = [Head("weight"), Head("force error (eV/Å)"), Head("ghost force (eV/Å)")]
    chosen = [f"{p.weight:g}" for p in result.front if p.chosen]
    return Table(
        rows,
        "Force errors of the validation set and ghost forces (rms) of the fitted regions. In "
        "bold: the chosen weight.",
        [heads],
        chosen,
    )


def trials(result: Result) -> Table:
    """Stability of the crystal in MD with the potential itself, fit by fit."""
    rows = []
    for number_, trial in enumerate(result.trials, 1):
        broke = [f"{when:.2g}" for when in trial.broke if when is not None]
        cells = [
            Cell(f"{trial.survived} of {len(trial.broke)}", marked=bool(broke)),
            Cell(", ".join(broke) or NONE),
            Cell(str(trial.frames) if trial.frames else NONE),
        ]
        rows.append((f"fit {number_}", cells))
    first = result.trials[0]
    caption = (
        f"MD of the crystal with the potential itself, at {first.temperature:g} K for {first.ps:g} "
        "ps. A trajectory fails when an atom leaves its site farther than any atom did in the "
        "expensive model's MD. Frames of failed ones were labelled and added to the training set."
    )
    heads = [Head(""), Head("stable"), Head("failed after (ps)"), Head("frames added")]
    return Table(rows, caption, [heads], [rows[-1][0]])


def times(result: Result) -> Table:
    """Wall time of each step."""
    rows = [(step, [Cell(number(seconds, 1))]) for step, seconds in result.seconds.items()]
    known = [seconds for s in result.seconds.values() if (seconds := finite(s)) is not None]
    rows.append(("total", [Cell(number(sum(known), 1))]))
    return Table(rows, "Wall time in seconds.", [[Head("step"), Head("s")]], ["total"])
