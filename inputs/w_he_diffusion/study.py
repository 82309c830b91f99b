"""Diffusion of one helium atom in tungsten: coefficients of all arms, and their Arrhenius lines.

    python study.py run [--size small|paper]
    python study.py status
    python study.py analyse

A task is one trajectory: an arm, a temperature, a repeat. All arms have the same engine, start and
random numbers.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.build import bulk

from mixserver.cli.study import study_command
from mixserver.config import Case, Local
from mixserver.core.arrays import Block
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.studies.arms import KINDS, Arm, thermostatted_values, write_case
from mixserver.studies.diffusion import (
    ANGSTROM2_PER_PS,
    Arrhenius,
    arrhenius,
    diffusion,
    mean_square_displacement,
)
from mixserver.studies.md import run_segments
from mixserver.studies.plot import COLOURS, MARKERS, figure, points
from mixserver.studies.shots import write_xyz
from mixserver.studies.statistics import Estimate
from mixserver.studies.study import Outcome, Study, Task, TaskContext, Values
from mixserver.studies.table import Cell, Table

HERE: Final = Path(__file__).resolve().parent
A: Final = 3.1776
"""Å, lattice constant of both models."""
LEAST: Final = 2.0
"""Errors that a coefficient must be away from zero to be one."""
EVERY: Final = 10
"""Steps between two positions of the helium atom."""
ARMS: Final = (
    Arm("all-expensive"),
    Arm("energy"),
    Arm("force", changes={"region": {"follow": False, "buffer_width": "exact"}}),
    Arm("all-cheap"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How large, how long and how many."""

    cells: int
    temperatures: tuple[float, ...]
    """K, ascending."""
    timestep_fs: float
    thermostat_fs: float
    skipped_ps: float
    run_ps: float
    """After the beginning that is skipped."""
    repeats: int
    lags_ps: tuple[float, ...]
    """Of the fit to the mean square displacement."""
    blocks: int
    """Into which each trajectory is cut."""
    segments: int
    region: Mapping[str, float]


SIZES: Final = {
    "small": Size(
        cells=3,
        temperatures=(800.0, 1000.0, 1200.0),
        timestep_fs=2.0,
        thermostat_fs=500.0,
        skipped_ps=0.4,
        run_ps=2.4,
        repeats=10,
        lags_ps=(0.08, 0.12, 0.16, 0.2),
        blocks=5,
        segments=1,
        region={},
    ),
    "paper": Size(
        cells=16,
        temperatures=(400.0, 600.0, 800.0),
        timestep_fs=1.0,
        thermostat_fs=2000.0,
        skipped_ps=2.0,
        run_ps=60.0,
        repeats=10,
        lags_ps=(0.5, 1.0, 1.5, 2.0),
        blocks=5,
        segments=20,
        region={"core_radius": 6.0, "blend_width": 4.0},
    ),
}


def plan(size: str) -> list[Task]:
    """One trajectory for each repeat, temperature and arm; first ones first."""
    one = SIZES[size]
    case = b"".join((HERE / name).read_bytes() for name in ("mix.toml", "input.xml"))
    tasks = []
    for repeat in range(1, one.repeats + 1):
        for kelvin in one.temperatures:
            for arm in ARMS:
                parameters = {
                    "arm": arm.kind,
                    "temperature": kelvin,
                    "repeat": repeat,
                    "cells": one.cells,
                    "timestep_fs": one.timestep_fs,
                    "thermostat_fs": one.thermostat_fs,
                    "steps": round(1e3 * (one.skipped_ps + one.run_ps) / one.timestep_fs),
                    "segments": one.segments,
                    "region": dict(one.region),
                    "case": zlib.crc32(case),
                }
                tasks.append(Task(f"{arm.kind}-{kelvin:g}K-{repeat}", parameters))
    return tasks


def cases(size: str, base: Case, workers: tuple[Local, ...], folder: Path) -> list[Case]:
    """The cases of all arms, to be checked before anything runs."""
    first = {task.parameters["arm"]: task for task in reversed(plan(size))}
    return [
        task_case(folder / name, base, workers, task.parameters) for name, task in first.items()
    ]


def task_case(
    folder: Path, base: Case, workers: Sequence[Local], parameters: Mapping[str, Any]
) -> Case:
    """The case of a task."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = parameters["cells"]
    start = crystal(cells)
    write_xyz(folder / "init.xyz", start, start.positions, "positions{angstrom}")
    arm = next(arm for arm in ARMS if arm.kind == parameters["arm"])
    region = {**parameters["region"], **arm.changes.get("region", {})}
    structure = {"structure": str(folder / "init.xyz")}
    arm = Arm(arm.kind, changes={"upstream": structure, "region": region})
    values = thermostatted_values(folder / "init.xyz", parameters)
    text = (base.folder / base.config.ipi.input).read_text(encoding="utf-8")
    text = text.replace("(atom=54)", f"(atom={2 * cells**3})")
    return write_case(folder, base, arm, workers, values, text=text.encode())


def crystal(cells: int) -> Frame:
    """A perfect crystal with a helium atom, the last one, at a tetrahedral site in the middle."""
    atoms = bulk("W", "bcc", a=A, cubic=True).repeat(cells)
    site = A * (cells // 2 + np.array([0.5, 0.25, 0.0]))
    topology = Topology(np.append(atoms.numbers, 2).astype(np.int32), pbc=(True, True, True))
    return topology.frame(np.vstack([atoms.positions, site]), np.array(atoms.cell[:]))


async def run(context: TaskContext) -> Values:
    """One trajectory."""
    parameters = context.task.parameters
    case = task_case(context.folder / "case", context.base, context.workers, parameters)
    folders = await run_segments(context, case, segments=parameters["segments"])
    rows = np.concatenate([read_walk(folder / "simulation.he") for folder in folders])
    _, first = np.unique(rows[:, 0], return_index=True)  # a segment repeats the last step before
    return {"walk": np.round(rows[first, 2:5], 4).tolist()}


def read_walk(file: Path) -> Block:
    """(t, 5) step, ps, and the helium atom's place in Å.

    Raises:
        ConfigError: the file is not what i-PI writes.
    """
    try:
        return np.loadtxt(file, ndmin=2)[:, :5]
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{file} is not i-PI's table of the atom's places: {error}") from error


def analyse(found: Mapping[str, Values], folder: Path) -> Outcome:
    """Tables and figures."""
    one = SIZES[folder.name]
    interval = 1e-3 * one.timestep_fs * EVERY
    lags = [round(lag / interval) for lag in one.lags_ps]
    skipped = round(one.skipped_ps / interval)
    rows: list[list[Cell]] = []
    lines: list[list[Cell]] = []
    series: dict[str, dict[float, Estimate]] = {}
    walks: dict[tuple[str, float], list[Block]] = {}
    fits: dict[str, Arrhenius] = {}
    remarks: list[str] = []
    for arm in ARMS:
        for kelvin in one.temperatures:
            made = [
                np.array(found[task.name]["walk"])[skipped:]
                for task in plan(folder.name)
                if task.name in found
                and (task.parameters["arm"], task.parameters["temperature"]) == (arm.kind, kelvin)
            ]
            if not made:
                continue
            walks[arm.kind, kelvin] = made
            value = diffusion(made, interval, lags, blocks=one.blocks)
            series.setdefault(arm.kind, {})[kelvin] = value
        mine = series.get(arm.kind, {})
        known = {kelvin: d for kelvin, d in mine.items() if d.value >= LEAST * d.error}
        if len(known) > 1:
            fits[arm.kind] = fit = arrhenius(list(known), list(known.values()))
            lines.append([KINDS[arm.kind], fit.energy, fit.prefactor, fit.chi2])
    for kelvin in one.temperatures:
        truth = series.get("all-expensive", {}).get(kelvin)
        for arm in ARMS:
            value = series.get(arm.kind, {}).get(kelvin)
            if value is None:
                continue
            apart = (value - truth) if truth is not None and arm.kind != "all-expensive" else None
            length = sum(len(walk) for walk in walks[arm.kind, kelvin]) * interval
            metric = Estimate(value.value * ANGSTROM2_PER_PS, value.error * ANGSTROM2_PER_PS)
            if value.value < LEAST * value.error:
                remarks.append(
                    f"{KINDS[arm.kind]}, {kelvin:g} K: D is less than {LEAST:g} errors, so the "
                    "atom has hardly hopped. Run longer, or make more trajectories."
                )
            away = None if apart is None else f"{apart.value / apart.error:+.1f}"
            rows.append([f"{kelvin:g}", KINDS[arm.kind], f"{length:.0f}", value, metric, away])
    _plot(series, fits, walks, interval, lags, folder / "diffusion.png")
    columns = ["T (K)", "arm", "ps", "D (Å²/ps)", "D (m²/s)", "from all-expensive, in errors"]
    return Outcome(
        tables=[
            Table("Diffusion coefficients", columns, rows),
            Table("Arrhenius lines", ["arm", "E (eV)", "D0 (Å²/ps)", "chi²/dof"], lines),
        ],
        figures=["diffusion.png"],
        remarks=remarks,
    )


def _plot(
    series: Mapping[str, Mapping[float, Estimate]],
    fits: Mapping[str, Arrhenius],
    walks: Mapping[tuple[str, float], Sequence[Block]],
    interval: float,
    lags: Sequence[int],
    file: Path,
) -> None:
    with figure(file, 2) as (left, right):
        for at, (kind, values) in enumerate(series.items()):
            known = {kelvin: one for kelvin, one in values.items() if one.value > 0.0}
            x = [1000.0 / kelvin + 0.008 * (at - 1.5) for kelvin in known]
            points(left, x, list(known.values()), kind, kind)
            if kind in fits:
                at_all = np.linspace(min(values), max(values), 50)
                line = [fits[kind].at(float(kelvin)) for kelvin in at_all]
                left.plot(1000.0 / at_all, line, color=COLOURS[kind], lw=0.8)
        left.set(xlabel="1000 K / T", ylabel="D (Å²/ps)")
        if left.has_data():
            left.set_yscale("log")
        kelvins = sorted({kelvin for _, kelvin in walks})
        middle = kelvins[len(kelvins) // 2]
        most = max(lags)
        for kind in series:
            made = walks.get((kind, middle), [])
            if made:
                steps = range(1, most + 1)
                msd = np.mean([mean_square_displacement(walk, steps) for walk in made], axis=0)
                right.plot(interval * np.array(steps), msd, color=COLOURS[kind], label=kind)
                right.plot(
                    interval * np.array(lags),
                    msd[np.array(lags) - 1],
                    MARKERS[kind],
                    color=COLOURS[kind],
                )
        right.set(xlabel="lag (ps)", ylabel=f"mean square displacement at {middle:g} K (Å²)")


STUDY = Study("Diffusion of helium in tungsten.", Path(__file__), plan, run, analyse, cases)

if __name__ == "__main__":
    study_command(STUDY)()
