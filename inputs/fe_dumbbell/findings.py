"""Tables and figures of the study."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from interstitial import EXPANSION, LATTICE, VARIANTS

from mixserver.core.arrays import Scalars
from mixserver.studies.arms import KINDS as ARMS
from mixserver.studies.arms import Arm
from mixserver.studies.diffusion import (
    ANGSTROM2_PER_PS,
    Arrhenius,
    arrhenius,
    diffusion,
    mean_square_displacement,
)
from mixserver.studies.plot import COLOURS, MARKERS, figure, points
from mixserver.studies.statistics import Estimate, series_mean
from mixserver.studies.study import Outcome, Values
from mixserver.studies.table import Cell, Table

Made = Mapping[tuple[str, float], Sequence[Values]]
"""Results of the trajectories of an arm at a temperature."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """An arm and what it is called."""

    arm: Arm
    words: str
    colour: str
    """Of `COLOURS`."""

    roles: tuple[str, ...] = ("cheap", "expensive")
    """Of the study's models."""
    longer: float = 1.0
    """Its trajectories are so many times as long as others."""
    reference: bool = False
    """Whether the potential of the MACE's labels stands for the expensive model: what a perfect
    MACE would find."""

    @property
    def mixed(self) -> bool:
        """Whether it has a region."""
        return self.arm.kind in ("energy", "force")


KINDS: Final = (
    Kind(Arm("all-expensive"), ARMS["all-expensive"], "all-expensive", ("expensive",)),
    Kind(Arm("force"), ARMS["force"], "force"),
    Kind(Arm("energy"), ARMS["energy"], "energy"),
    Kind(Arm("all-cheap"), ARMS["all-cheap"], "all-cheap", ("cheap",)),
    Kind(Arm("all-expensive", name="eam"), "all atoms by the labels' EAM", "other", (), 4.0, True),
    Kind(
        Arm("force", name="eam-force"),
        "mixed by forces, EAM for MACE",
        "experiment",
        ("cheap",),
        2.0,
        True,
    ),
)


def findings(
    made: Made, interval: float, lags: Sequence[int], blocks: int, folder: Path
) -> Outcome:
    """Tables, and figures in a folder.

    Args:
        made: results by arm and temperature.
        interval: ps between two frames.
        lags: of the fit to the mean square displacement, in frames.
        blocks: into which each trajectory is cut.
        folder: where the figures go.
    """
    series: dict[str, dict[float, Estimate]] = {}
    for (name, kelvin), several in sorted(made.items()):
        walks = [np.array(values["walk"]) for values in several]
        value = diffusion(walks, interval, lags, blocks=max(blocks, -(-5 // len(walks))))
        series.setdefault(name, {})[kelvin] = value
    fits = {}
    for name, values in series.items():
        known = {kelvin: value for kelvin, value in values.items() if value.value > 0.0}
        if len(known) > 1:
            fits[name] = arrhenius(list(known), list(known.values()))
    _plot(made, series, fits, interval, lags, folder / "diffusion.png")
    figures = ["diffusion.png"]
    followers = {of: several for of, several in made.items() if "region" in several[0]}
    if followers:
        _plot_regions(followers, interval, folder / "region.png")
        figures.append("region.png")
    tables = [
        _coefficients(made, series, interval),
        Table(
            "Arrhenius lines",
            ["arm", "E (eV)", "D0 (Å²/ps)", "chi²/dof"],
            [
                [kind.words, fit.energy, fit.prefactor, fit.chi2]
                for kind in KINDS
                if (fit := fits.get(kind.arm.label))
            ],
        ),
        _motions(made),
        _regions(followers),
        _temperatures(made),
    ]
    return Outcome(
        tables=[table for table in tables if table.rows],
        figures=figures,
        remarks=["Errors are one standard error; those of D from blocks of the trajectories."],
    )


def _ordered(made: Made) -> Iterator[tuple[Kind, float]]:
    for kelvin in sorted({kelvin for _, kelvin in made}):
        for kind in KINDS:
            if (kind.arm.label, kelvin) in made:
                yield kind, kelvin


def _coefficients(
    made: Made,
    series: Mapping[str, Mapping[float, Estimate]],
    interval: float,
) -> Table:
    rows: list[list[Cell]] = []
    for kind, kelvin in _ordered(made):
        name = kind.arm.label
        value = series[name][kelvin]
        length = interval * sum(len(values["walk"]) for values in made[name, kelvin])
        metric = Estimate(value.value * ANGSTROM2_PER_PS, value.error * ANGSTROM2_PER_PS)
        truth = series.get("all-expensive", {}).get(kelvin)
        apart = None if truth is None or truth == value else value - truth
        away = None if apart is None else f"{apart.value / apart.error:+.1f}"
        rows.append([f"{kelvin:g}", kind.words, f"{length:.0f}", value, metric, away])
    columns = ["T (K)", "arm", "ps", "D (Å²/ps)", "D (m²/s)", "from all-expensive, in errors"]
    return Table("Diffusion coefficients", columns, rows)


def _motions(made: Made) -> Table:
    rows: list[list[Cell]] = []
    for kind, kelvin in _ordered(made):
        several = made[kind.arm.label, kelvin]
        half = 0.5 * LATTICE * (1.0 + EXPANSION * kelvin)
        visited = sum(
            len(np.unique(np.rint(np.array(values["walk"]) / half), axis=0)) for values in several
        )
        lengths = [len(values["walk"]) for values in several]
        near = [
            np.average([values["axes"][family] for values in several], weights=lengths)
            for family in VARIANTS
        ]
        counted = sum(values["turns"] for values in several)
        rows.append([f"{kelvin:g}", kind.words, visited, counted, *(f"{one:.2f}" for one in near)])
    columns = ["T (K)", "arm", "sites", "turns", *(f"near <{family}>" for family in VARIANTS)]
    return Table("How it moved", columns, rows)


def _regions(made: Made) -> Table:
    rows: list[list[Cell]] = []
    for kind, kelvin in _ordered(made):
        seen = {name: _joined(made[kind.arm.label, kelvin], name) for name in ("seed", "lambda")}
        centre, edge = (_joined(made[kind.arm.label, kelvin], name) for name in ("centre", "core"))
        rows.append(
            [
                f"{kelvin:g}",
                kind.words,
                len(centre),
                int(np.count_nonzero(~np.isfinite(centre))),
                float(np.median(centre)),
                float(centre.max()),
                float(seen["seed"].max()),
                float(edge.min()),
                int(np.count_nonzero(seen["lambda"] < 1.0)),
            ]
        )
    columns = [
        "T (K)",
        "arm",
        "frames",
        "without seeds",
        "to the middle of the seeds, median (Å)",
        "largest (Å)",
        "to the nearest seed, largest (Å)",
        "to the nearest atom outside the core, least (Å)",
        "frames with the interstitial outside the core",
    ]
    return Table("Whether the region followed", columns, rows)


def _joined(several: Sequence[Values], name: str) -> Scalars:
    """A list of all tasks; null is infinite."""
    values = [one for task in several for one in task["region"][name]]
    return np.array([np.inf if one is None else one for one in values])


def _temperatures(made: Made) -> Table:
    rows: list[list[Cell]] = []
    for kind, kelvin in _ordered(made):
        several = made[kind.arm.label, kelvin]
        cells: list[Cell] = []
        for shell in ("all", "core", "blend", "bulk"):
            values = [one for task in several for one in task["kelvin"].get(shell, [])]
            cells.append(series_mean(np.array(values)).estimate if len(values) > 3 else None)
        rows.append([f"{kelvin:g}", kind.words, *cells])
    columns = ["T (K)", "arm", "all atoms (K)", "core (K)", "blend (K)", "bulk (K)"]
    return Table("Temperatures", columns, rows)


def _plot(
    made: Made,
    series: Mapping[str, Mapping[float, Estimate]],
    fits: Mapping[str, Arrhenius],
    interval: float,
    lags: Sequence[int],
    file: Path,
) -> None:
    kelvins = sorted({kelvin for _, kelvin in made})
    shown = kelvins[-1]
    with figure(file, 2) as (left, right):
        for at, kind in enumerate(KINDS):
            name = kind.arm.label
            values = series.get(name, {})
            if values:
                x = [1000.0 / kelvin + 0.006 * (at - 2) for kelvin in values]
                points(left, x, list(values.values()), kind.colour, kind.words)
            if name in fits:
                range_ = np.linspace(kelvins[0], kelvins[-1], 50)
                line = [fits[name].at(float(kelvin)) for kelvin in range_]
                left.plot(1000.0 / range_, line, color=COLOURS[kind.colour], lw=0.8)
            if (name, shown) in made:
                steps = range(1, 2 * max(lags) + 1)
                walks = [np.array(values["walk"]) for values in made[name, shown]]
                msd = np.mean([mean_square_displacement(walk, steps) for walk in walks], axis=0)
                times = interval * np.array(steps)
                colour = COLOURS[kind.colour]
                right.plot(times, msd, color=colour, label=kind.words)
                ends = np.array([min(lags), max(lags)])
                right.plot(interval * ends, msd[ends - 1], MARKERS[kind.colour], color=colour)
        left.set(xlabel="1000 K / T", ylabel="D (Å²/ps)", yscale="log")
        right.set(xlabel="lag (ps)", ylabel=f"mean square displacement at {shown:g} K (Å²)")


def _plot_regions(made: Made, interval: float, file: Path) -> None:
    """Distances in the first trajectory of each mixed arm at the highest temperature."""
    shown = max(kelvin for _, kelvin in made)
    some = [(kind, kelvin) for kind, kelvin in _ordered(made) if kelvin == shown]
    with figure(file, len(some)) as panels:
        for axes, (kind, kelvin) in zip(panels, some, strict=True):
            values = made[kind.arm.label, kelvin][:1]
            edge = _joined(values, "core")
            times = interval * np.arange(len(edge))
            walk = np.array(values[0]["walk"])
            gone = np.linalg.norm(walk - walk[0], axis=1)
            skipped = interval * (len(edge) - len(walk))
            axes.plot(
                skipped + interval * np.arange(len(gone)),
                gone,
                color=COLOURS["grid"],
                lw=0.8,
                label="distance from where it was first",
            )
            axes.plot(times, edge, color=COLOURS[kind.colour], label="nearest atom outside core")
            middle = _joined(values, "centre")
            axes.plot(times, middle, color=COLOURS["other"], label="middle of the seeds")
            axes.set(
                xlabel="time (ps)",
                ylabel="Å from the interstitial",
                title=f"{kind.words}, {kelvin:g} K",
                ylim=(0.0, None),
            )
