"""A region, its criterion and its scan as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Final

from mixserver.analysis.criterion_values import Bin, CriterionValues
from mixserver.analysis.region_preview import RegionPreview
from mixserver.analysis.region_scan.results import Errors, Scan, ScanPoint
from mixserver.cli.tables import text_table

_BAR: Final = 40
"""Characters of the longest bar."""
_CLEARLY: Final = 1.2
"""Ratio of two times that noise does not explain."""
_MEANING: Final = {
    "seeds": "",
    "core": "lambda = 1: expensive",
    "blend": "0 < lambda < 1: a share of each",
    "buffer": "evaluated so that forces in the blend are right",
    "halo": "sent along as surroundings",
    "bulk": "cheap model only",
}


def preview_text(seen: RegionPreview) -> str:
    """The numbers of atoms in each shell, with their share and what it means."""
    atoms = len(seen.frame)
    counts = {"seeds": len(seen.region.seeds), **seen.counts()}
    rows = [
        (name, str(count), f"{100.0 * count / atoms:.1f} %", _MEANING[name])
        for name, count in counts.items()
    ]
    sizes = sorted((len(cluster.atoms) for cluster in seen.clusters), reverse=True)
    listed = ", ".join(map(str, sizes[:6])) + (", ..." if len(sizes) > 6 else "")
    jobs = f"expensive jobs: {len(sizes)}" + (f", of {listed} atoms" if sizes else "")
    table = text_table((f"of {atoms}", "atoms", "share", ""), rows, left=(0, 3))
    return f"{table}\n{jobs}"


def criterion_text(seen: RegionPreview) -> str:
    """The histogram of the criterion, with its bounds; "" if there is none."""
    criterion = seen.criterion
    if criterion is None:
        return ""
    seeds = criterion.seeds
    chosen = len(criterion.selected)
    lines = [f"{seeds.compute} of {int(criterion.eligible.sum())} atoms at this structure:"]
    lines += _bars(criterion)
    unknown = len(criterion.values) - int(criterion.eligible.sum())
    if unknown:
        lines.append(f"{unknown} atoms cannot be seeds: another element, or no value")
    words = f"{chosen} atom{'s' * (chosen != 1)} within the bounds"
    if seeds.initial is not None:
        words += f"; a run starts with the {len(seeds.initial)} of region.seeds.initial"
    if seeds.samples > 1:
        words += f"; a run chooses by the mean of {seeds.samples} samples"
    return "\n".join([*lines, words])


def _bars(criterion: CriterionValues) -> list[str]:
    """A line a bin, with a line wherever a bound lies; bars are logarithmic."""
    bins = _joined(criterion.histogram(), set(criterion.bounds.values()))
    if not bins:
        return ["  no atom has a value"]
    most = math.log1p(max(one.atoms for one in bins))
    waiting = sorted(criterion.bounds.items(), key=lambda item: item[1])
    width = max(len(_value(one)) for one in bins)
    lines = []
    for one in bins:
        while waiting and waiting[0][1] <= one.middle and not _within(one, waiting[0]):
            lines.append(_bound(*waiting.pop(0)))
        bar = "#" * round(_BAR * math.log1p(one.atoms) / most) if most else ""
        mark = f"  seeds: {one.seeds}" if one.seeds else ""
        lines.append(f"  {_value(one):>{width}}  {bar:<{_BAR}} {one.atoms}{mark}")
    return [*lines, *(_bound(*item) for item in waiting)]


def _joined(bins: Iterable[Bin], bounds: Collection[float]) -> list[Bin]:
    """The bins with neighbouring empty ones joined, unless a bound lies in or between them."""
    found: list[Bin] = []
    for one in bins:
        last = found[-1] if found else one
        free = not any(last.low <= bound <= one.high for bound in bounds)
        if found and not last.atoms and not one.atoms and free:
            found[-1] = Bin(last.low, one.high, 0, 0)
        else:
            found.append(one)
    return found


def _within(one: Bin, bound: tuple[str, float]) -> bool:
    """Whether an upper bound takes in the bin's own middle, so that its line comes below."""
    return bound[0] == "high" and bound[1] >= one.middle


def _bound(name: str, bound: float) -> str:
    return f"  {f' {name} = {bound:g} ':-^{_BAR}}"


def _value(one: Bin) -> str:
    """A whole number where the bin is one, else the range."""
    return f"{one.middle:.0f}" if one.whole else f"{one.low:.4g} to {one.high:.4g}"


def scan_text(scan: Scan) -> str:
    """A scan as a table, the points worth taking marked, and what follows from it."""
    best = scan.best()
    rows = [_row(scan, point, "*" if point in best else "") for point in scan.points]
    alone = scan.cheap_errors
    cheap = (_ms(scan.cheap_ms), "", _ms(scan.cheap_ms), _gain(scan, scan.cheap_ms))
    rows.append(("", "", "", "0", *cheap, *_errors(alone), "cheap alone"))
    expensive = ("", _ms(scan.expensive_ms), _ms(scan.expensive_ms), "1.0")
    rows.append(("", "", "", str(scan.atoms), *expensive, *("0",) * 4, "expensive alone"))
    head = ("core Å", "blend Å", "core", "sent", "cheap ms", "exp. ms", "ms", "speed-up")
    errors = ("seeds", "inner", "outer", "all")
    table = text_table((*head, *errors, ""), rows, left=(12,))
    lines = [
        f"rms force error in eV/Å against all {scan.atoms} atoms with the expensive model, "
        f"positions displaced by {scan.displacement:g} Å",
        table,
        "inner: atoms that are core in all points; outer: core or blend in any; sent: atoms in "
        "expensive jobs",
        f"* no point is both faster and more accurate ({scan.judged_by})",
        *(
            f"core {point.core_radius:g}, blend {point.blend_width:g}: {point.problem}"
            for point in scan.points
            if point.problem
        ),
    ]
    if scan.kind == "force":
        lines.append(
            "under force mixing core atoms have the expensive model's forces, but for the removal "
            "of the net force; the radii decide how far from the seeds forces are expensive"
        )
    return "\n".join([*lines, *_verdict(scan)])


def _verdict(scan: Scan) -> list[str]:
    """Whether mixing pays at all, and if not, what to change."""
    times = [ms for _, ms, _ in scan.measured]
    if not times:
        return ["WARNING: no point could be measured"]
    fastest = min(times)
    if scan.expensive_ms > _CLEARLY * fastest:
        return []
    if scan.cheap_ms > 0.7 * fastest:
        remedy = "a faster cheap model, or more threads for it"
    elif scan.kind == "force":
        remedy = "a larger cell, energy mixing (which needs no buffer), or a thinner buffer"
    else:
        remedy = "a larger cell"
    return [
        "WARNING: no point is clearly faster than the expensive model alone for all "
        f"{scan.atoms} atoms; mixing pays with {remedy}"
    ]


def _row(scan: Scan, point: ScanPoint, mark: str) -> tuple[str, ...]:
    sizes = (f"{point.core_radius:g}", f"{point.blend_width:g}", str(point.core), str(point.sent))
    times = (_ms(point.ms_cheap), _ms(point.ms_expensive), _ms(point.ms), _gain(scan, point.ms))
    here = (point.core_radius, point.blend_width) == scan.case
    note = f"{mark:1} the case" if here else mark
    return (*sizes, *times, *_errors(point.errors), note)


def _gain(scan: Scan, ms: float | None) -> str:
    return "-" if not ms else f"{scan.expensive_ms / ms:.1f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100.0 else f"{value:.0f}"


def _errors(errors: Errors | None) -> tuple[str, ...]:
    if errors is None:
        return ("-",) * 4
    return tuple(
        "-"
        if value is None
        else f"{value:.4f}"
        if value >= 1e-3 or value == 0.0
        else f"{value:.0e}"
        for value in (errors.seeds, errors.inner, errors.outer, errors.all)
    )
