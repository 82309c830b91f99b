"""A whole distillation: from a recipe to a potential and a report.

The order of steps is the order of this file; each is kept in the run folder.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from mixserver import __version__
from mixserver.arrays import Scalars
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.candidates import (
    Source,
    described,
    design_of,
    pair_basis,
    parity,
)
from mixserver.distill.descriptor import Descriptor
from mixserver.distill.design import Design
from mixserver.distill.fit import Fitted, Wishes, chosen, fitted
from mixserver.distill.folder import RunFolder, open_folder
from mixserver.distill.material import Material, material
from mixserver.distill.mending import mended
from mixserver.distill.overlay import read_parts
from mixserver.distill.pair import PairBasis
from mixserver.distill.pool import cheap_workers, workers
from mixserver.distill.potential import write_potential
from mixserver.distill.reading import Order
from mixserver.distill.report import write_report
from mixserver.distill.results import Candidate, Result
from mixserver.distill.rows import RowFiles, make_reference_rows, make_rows
from mixserver.distill.side_by_side import Judged, judged
from mixserver.errors import ConfigError, MixserverError, WorkerFault

log = structlog.get_logger(__name__)

Block = NDArray[np.float64]
Show = Callable[[str, int, int], None]
"""Told (step, done, total)."""

_PROCESSES: Final = 2
"""For descriptor rows."""
_QUIET: Final = 0.02
"""eV/Å, largest ghost force of what is recommended."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a distillation leaves."""

    potential: Path
    """Commands for the lammps worker."""
    report: Path
    """HTML."""
    result: Result


async def distil(order: Order, show: Show, *, sweep: bool = False) -> Written:
    """Make a cheap potential from an expensive model.

    Args:
        order: what is to be made.
        show: told how far it is.
        sweep: compare several resolutions and cutoffs too.

    Raises:
        ConfigError: the recipe, the structure, the model or the constraints do not allow it.
        MixserverError: workers cannot be asked.
    """
    read_parts(order.reference or (), order.elements)  # what it cannot be laid over, said early
    with open_folder(order.folder) as run:
        await _try_others(order)
        async with workers(order, order.folder / "workers") as dispatcher:
            return await _distil(order, run, dispatcher, show, sweep=sweep)


async def _distil(
    order: Order, run: RunFolder, dispatcher: Dispatcher, show: Show, *, sweep: bool
) -> Written:
    recipe = order.recipe
    reach = max(
        *(order.descriptor(cutoff=c).reach for c in (*recipe.sweep.cutoffs, None)),
        recipe.pair.cutoff if recipe.pair.functions else 0.0,
    )
    known = await material(order, run, dispatcher, show, cheap_reach=reach)
    seconds = known.seconds
    work = order.folder / "fits"
    work.mkdir(exist_ok=True)

    descriptor = order.descriptor()
    rows_of_pairs: dict[PairBasis, dict[str, Block]] = {}

    async def fit(now: Material) -> Path:
        """Fit what is known by now."""
        source = await _source(order, now, descriptor, rows_of_pairs, show)
        show("fit", 0, 1)
        # on a thread: workers that hear nothing from the server for long take it for dead
        return await asyncio.to_thread(_first, order, source, descriptor, work)

    known, trials = await mended(order, run, known, dispatcher, fit, show)
    source = await _source(order, known, descriptor, rows_of_pairs, show)
    began = time.monotonic()
    show("fit", 0, 1)
    listed, best = await asyncio.to_thread(_ways, order, known, source, descriptor, work)
    others, dropped = await _stock(order, known, source, show)
    listed += others
    show("fit", 1, 1)
    seconds["fit"] = time.monotonic() - began

    began = time.monotonic()
    candidates = await judged(listed, order, known, dispatcher, work, show, step="judge")
    seconds["judge"] = time.monotonic() - began

    swept: list[Candidate] = []
    if sweep:
        began, before = time.monotonic(), set(seconds)
        swept = await _sweep(order, known, dispatcher, rows_of_pairs, work, show)
        # descriptor rows are told apart
        booked = sum(s for step, s in seconds.items() if step not in before)
        seconds["sweep"] = time.monotonic() - began - booked
    result = Result(
        name=recipe.name,
        elements=order.elements,
        expensive=known.card.name,
        fingerprint=known.card.fingerprint,
        portrait=known.portrait,
        ghost_free=bool(known.partition),
        candidates=tuple(candidates),
        trials=tuple(trials),
        front=best.front,
        parity=await asyncio.to_thread(parity, source, source.rows, best.coefficients),
        sweep=tuple(swept),
        recommended=recommended(swept),
        seconds=seconds,
        notes=(*_notes(known, best), *dropped),
        pinned=_pinned(order),
    )
    potential = write_potential(
        order.folder,
        recipe.name,
        descriptor,
        source.pairs,
        best.coefficients,
        reference=order.reference or (),
        notes=_provenance(order, known, descriptor),
    )
    return Written(potential, write_report(result, order.folder), result)


async def _source(
    order: Order,
    known: Material,
    descriptor: Descriptor,
    rows_of_pairs: dict[PairBasis, dict[str, Block]],
    show: Show,
) -> Source:
    """Descriptor rows of everything that was labelled."""
    files = list(known.files.values())
    folder = order.folder / "rows"
    name = f"rows 2J={descriptor.twojmax} {descriptor.cutoff:g} Å"
    began = time.monotonic()
    rows = await make_rows(
        descriptor,
        files,
        folder,
        processes=_PROCESSES,
        progress=lambda done, total: show(name, done, total),
    )
    reference: RowFiles | None = None
    if order.reference is not None:
        reference = await make_reference_rows(order.reference, files, folder, processes=_PROCESSES)
    known.seconds[name] = time.monotonic() - began
    pairs = pair_basis(order, known)
    return Source(order, known, rows, reference, pairs, rows_of_pairs.setdefault(pairs, {}))


def _first(order: Order, source: Source, descriptor: Descriptor, work: Path) -> Path:
    """The fit that was asked for, written down."""
    recipe = order.recipe
    made = chosen(design_of(source), recipe.fit, recipe.hard, recipe.partition)
    return _written(order, work, "constrained", descriptor, source.pairs, made.coefficients)


def _ways(
    order: Order, known: Material, source: Source, descriptor: Descriptor, work: Path
) -> tuple[list[Judged], Fitted]:
    """The fit that was asked for, and the same without this and that."""
    recipe = order.recipe
    design = design_of(source)
    best = chosen(design, recipe.fit, recipe.hard, recipe.partition)

    def one(label: str, made: Fitted, of: Design, pairs: PairBasis) -> Judged:
        here = Source(order, known, source.rows, source.reference, pairs, source.pair_rows)
        candidate = described(
            label,
            of,
            made.solution,
            made.coefficients,
            here,
            weight=made.ghost,
            descriptor=descriptor,
        )
        return Judged(candidate, _written(order, work, label, descriptor, pairs, made.coefficients))

    listed = [one("constrained", best, design, source.pairs)]
    plain = fitted(design, recipe.fit, recipe.hard, Wishes())
    if known.partition:
        listed.append(one("no partition rows", Fitted(plain, 0.0), design, source.pairs))
    free = fitted(design, recipe.fit, recipe.hard, Wishes(hard=False))
    listed.append(one("unconstrained", Fitted(free, 0.0), design, source.pairs))
    if source.pairs.functions:
        none = pair_basis(order, known, functions=0)
        alone = design_of(Source(order, known, source.rows, source.reference, none, {}))
        try:
            made = chosen(alone, recipe.fit, recipe.hard, recipe.partition)
        except ConfigError as error:  # too few coefficients for the constraints, for instance
            log.warning("SNAP without pair functions cannot be fitted", because=str(error))
        else:
            listed.append(one("SNAP alone", made, alone, none))
    return listed, best


async def _try_others(order: Order) -> None:
    """Start LAMMPS with each potential that is to be compared, before hours are spent.

    Raises:
        ConfigError: LAMMPS refuses one of them.
    """
    for name in order.recipe.compare:
        folder = order.folder / "workers"
        try:
            async with cheap_workers(order, order.base / name, folder) as dispatcher:
                await dispatcher.card("cheap")
        except WorkerFault as error:
            raise ConfigError(
                f"{order.file.name}: compare names {order.base / name}, which LAMMPS does not take "
                f"for {', '.join(order.elements)}; correct it or leave it out. {error}"
            ) from error


async def _stock(
    order: Order, known: Material, source: Source, show: Show
) -> tuple[list[Judged], list[str]]:
    """Potentials that others made, told by the same measures.

    Returns:
        Those that can be told, and in words why others cannot.
    """
    listed: list[Judged] = []
    dropped: list[str] = []
    for name in order.recipe.compare:
        file = order.base / name
        try:
            rows = await make_reference_rows(
                file,
                list(known.files.values()),
                order.folder / "rows",
                processes=_PROCESSES,
                progress=lambda done, total: show(f"rows {file.stem}", done, total),  # noqa: B023
            )
            none = pair_basis(order, known, functions=0)
            theirs = Source(order, known, rows, None, none, {})
            design = await asyncio.to_thread(design_of, theirs)
            candidate = described(file.stem, design, None, np.ones(1), theirs)
        except MixserverError as error:  # what was distilled is worth more than the comparison
            dropped.append(f"{name} could not be compared: {error}")
            log.warning("not compared", potential=name, because=str(error))
        else:
            listed.append(Judged(candidate, file))
    return listed, dropped


async def _sweep(
    order: Order,
    known: Material,
    dispatcher: Dispatcher,
    rows_of_pairs: dict[PairBasis, dict[str, Block]],
    work: Path,
    show: Show,
) -> list[Candidate]:
    """All resolutions and cutoffs of the recipe, fitted alike and run side by side."""
    recipe = order.recipe
    listed: list[Judged] = []
    failed: list[Candidate] = []
    for twojmax in recipe.sweep.twojmax:
        for cutoff in recipe.sweep.cutoffs:
            descriptor = order.descriptor(twojmax=twojmax, cutoff=cutoff)
            source = await _source(order, known, descriptor, rows_of_pairs, show)
            try:
                listed.append(await asyncio.to_thread(_point, order, source, descriptor, work))
            except ConfigError as error:
                label = _label(descriptor)
                failed.append(Candidate(label=label, descriptor=descriptor, trouble=str(error)))
    found = await judged(listed, order, known, dispatcher, work, show, step="sweep", thorough=False)
    return found + failed


def _point(order: Order, source: Source, descriptor: Descriptor, work: Path) -> Judged:
    """One point of a sweep."""
    recipe = order.recipe
    design = design_of(source)
    made = chosen(design, recipe.fit, recipe.hard, recipe.partition)
    candidate = described(
        _label(descriptor),
        design,
        made.solution,
        made.coefficients,
        source,
        weight=made.ghost,
        descriptor=descriptor,
    )
    name = f"sweep-2J{descriptor.twojmax}-{descriptor.cutoff:g}"
    file = _written(order, work, name, descriptor, source.pairs, made.coefficients)
    return Judged(candidate, file)


def _label(descriptor: Descriptor) -> str:
    return f"2J = {descriptor.twojmax}, {descriptor.cutoff:g} Å"


def recommended(swept: Sequence[Candidate]) -> str:
    """The candidate with the least product of cost and force error.

    Of those that are crystals, and whose ghost forces in a 4 Å blend are small, if there are any.
    """
    of = _hottest(swept)
    quiet = [one for one in swept if (ghost := one.ghost(4.0)) and ghost.largest <= _QUIET]
    scores = [
        (candidate.microseconds * error, candidate.label)
        for candidate in quiet or swept
        if candidate.microseconds is not None
        and candidate.portrait is not None
        and (error := candidate.forces(of)) is not None
        and error > 0.0
    ]
    return min(scores)[1] if scores else ""


def _hottest(swept: Sequence[Candidate]) -> str:
    """The hot structures by which potentials are compared: those in the middle."""
    kinds = sorted(
        {errors.of for candidate in swept for errors in candidate.errors if "hot" in errors.of},
        key=lambda of: float(of.split()[1]) if len(of.split()) > 1 else 0.0,
    )
    return kinds[len(kinds) // 2] if kinds else ""


def _written(
    order: Order,
    work: Path,
    label: str,
    descriptor: Descriptor,
    pairs: PairBasis,
    coefficients: Scalars,
) -> Path:
    name = label.replace(" ", "-").replace("=", "")
    return write_potential(
        work,
        f"{order.recipe.name}-{name}",
        descriptor,
        pairs,
        coefficients,
        reference=order.reference or (),
    )


def _provenance(order: Order, known: Material, descriptor: Descriptor) -> list[str]:
    kelvin = ", ".join(f"{t:g}" for t in order.recipe.soft.temperatures)
    return [
        f"{order.recipe.name}: SNAP with 2J = {descriptor.twojmax}, {descriptor.cutoff:g} Å, by "
        f"mixserver {__version__} distill",
        f"from {known.card.name} ({known.card.fingerprint[:16]}), crystal at {kelvin} K; "
        f"recipe {order.file.name}",
    ]


def _notes(known: Material, best: Fitted) -> tuple[str, ...]:
    solution = best.solution
    notes = [
        f"{solution.rank} independent constraints; {solution.redundant} more say the same by "
        "symmetry",
        f"least distance of two atoms in the structures: {known.nearest:.2f} Å; below it the "
        "potential is a guess",
    ]
    if known.portrait.trouble:
        notes.append(f"expensive model: {known.portrait.trouble}")
    if not known.partition and known.card.weights:
        notes.append(
            "no regions were asked for (partition.regions), or the expensive model does not say "
            "how far it looks: ghost forces are neither fitted nor told"
        )
    return (*notes, *known.notes)


def _pinned(order: Order) -> tuple[str, ...]:
    """What exact constraints were asked for."""
    hard = order.recipe.hard
    if hard.form != "exact":
        return ()
    return tuple(key for key in ("lattice", "elastic") if getattr(hard, key))
