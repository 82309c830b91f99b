"""Diffusion of a self-interstitial in iron, in several arms, and whether the region followed it.

    python study.py run [--size small|paper]
    python study.py status
    python study.py analyse

A task is one trajectory: an arm, a temperature, a repeat. All arms have the same engine, start and
random numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from findings import KINDS, Kind, findings
from interstitial import LATTICE, dumbbell, followed, lattice, shares, turns

from mixserver.analysis.records import column, joined_reports
from mixserver.analysis.run_properties import read_properties
from mixserver.analysis.trajectory import read_trajectory
from mixserver.cli.study import study_command
from mixserver.config import Case, Local
from mixserver.studies.arms import thermostatted_values, write_case
from mixserver.studies.interstitial import interstitial_walk
from mixserver.studies.md import run_segments
from mixserver.studies.models import MODELS
from mixserver.studies.shots import write_xyz
from mixserver.studies.study import Outcome, Study, Task, TaskContext, Values

HERE: Final = Path(__file__).resolve().parent
EVERY: Final = 15
"""Steps between two frames."""
REFERENCE: Final = ("lammps", str(HERE / "model/reference.in"))
"""The worker with the potential whose energies and forces the MACE was trained on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How large, how long and how many."""

    cells: int
    temperatures: tuple[float, ...]
    timestep_fs: float
    thermostat_fs: float
    skipped_ps: float
    run_ps: float
    """After the beginning that is skipped."""
    repeats: int
    lags_ps: tuple[float, float]
    """First and last lag of the fit to the mean square displacement."""
    blocks: int
    """Into which each trajectory is cut."""
    segments: int
    region: Mapping[str, Any]
    """With other values than in mix.toml."""


SIZES: Final = {
    "small": Size(
        cells=5,
        temperatures=(1100.0, 800.0),
        timestep_fs=3.0,
        thermostat_fs=500.0,
        skipped_ps=1.5,
        run_ps=8.0,
        repeats=6,
        lags_ps=(0.36, 0.72),
        blocks=3,
        segments=2,
        region={},
    ),
    "paper": Size(
        cells=16,
        temperatures=(800.0, 900.0, 1000.0, 1100.0),
        timestep_fs=1.0,
        thermostat_fs=2000.0,
        skipped_ps=10.0,
        run_ps=1000.0,
        repeats=5,
        lags_ps=(0.36, 3.0),
        blocks=20,
        segments=50,
        region={
            "core_radius": 6.0,
            "blend_width": 4.0,
            "seeds": {"every": 120, "sample_every": 12},
        },
    ),
}


def plan(size: str) -> list[Task]:
    """One trajectory for each repeat, temperature and arm; first ones first."""
    one = SIZES[size]
    tasks = []
    for repeat in range(1, one.repeats + 1):
        for kelvin in one.temperatures:
            for kind in arms():
                run_ps = one.run_ps * kind.longer
                parameters = {
                    "arm": kind.arm.label,
                    "temperature": kelvin,
                    "repeat": repeat,
                    "cells": one.cells,
                    "lattice": LATTICE,
                    "timestep_fs": one.timestep_fs,
                    "thermostat_fs": one.thermostat_fs,
                    "steps": round(1e3 * (one.skipped_ps + run_ps) / one.timestep_fs),
                    "skipped_ps": one.skipped_ps,
                    "segments": one.segments,
                    "region": dict(one.region),
                }
                name = f"{kind.arm.label}-{kelvin:g}K-{repeat}"
                tasks.append(Task(name, parameters, kind.roles))
    return tasks


def arms() -> tuple[Kind, ...]:
    """The arms: those with the labels' potential only beside the MACE that was trained on it."""
    own = (HERE / MODELS).exists()
    return tuple(kind for kind in KINDS if not (own and kind.reference))


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
    cells, kelvin = parameters["cells"], parameters["temperature"]
    start, pair = dumbbell(cells, kelvin)
    write_xyz(folder / "init.xyz", start, start.positions, "positions{angstrom}")
    kind = next(kind for kind in KINDS if kind.arm.label == parameters["arm"])
    changes: dict[str, Any] = {"upstream": {"structure": str(folder / "init.xyz")}}
    if kind.reference:
        workers = [
            msgspec.structs.replace(one, command=REFERENCE) if one.role == "expensive" else one
            for one in workers
        ]
    if kind.mixed:
        region = dict(parameters["region"])
        region["seeds"] = {**region.get("seeds", {}), "initial": pair.tolist()}
        changes["region"] = region
        changes["record"] = {"regions_every": EVERY}
    values = thermostatted_values(folder / "init.xyz", parameters)
    arm = dataclasses.replace(kind.arm, changes=changes)
    return write_case(folder, base, arm, workers, values)


async def run(context: TaskContext) -> Values:
    """One trajectory."""
    parameters = context.task.parameters
    case = task_case(context.folder / "case", context.base, context.workers, parameters)
    folders = await run_segments(context, case, segments=parameters["segments"])
    sites, lengths = lattice(parameters["cells"], parameters["temperature"])
    frames = read_trajectory(folders, len(sites) + 1, 10**9)
    picosecond = 1e-3 * parameters["timestep_fs"]
    skipped = int((frames.step * picosecond < parameters["skipped_ps"]).sum())
    walk = interstitial_walk(frames.positions, sites, lengths)
    properties = read_properties(folders, ("step", "time", "temperature")).columns
    hot = properties["temperature"][properties["time"] >= parameters["skipped_ps"]]
    values: Values = {
        "walk": np.round(walk.sites[skipped:], 3).tolist(),
        "axes": shares(walk.axes[skipped:]),
        "turns": turns(walk.axes[skipped:]),
        "kelvin": {"all": hot.tolist()},
    }
    if case.config.region is not None:
        values["region"] = followed(folders, sites, lengths)
        reports = joined_reports(folders)
        begun = [one for one in reports if one.evaluation * picosecond >= parameters["skipped_ps"]]
        for shell in ("core", "blend", "bulk"):
            kelvin = column(begun, f"kelvin_{shell}")
            values["kelvin"][shell] = np.round(kelvin[np.isfinite(kelvin)], 2).tolist()
    return values


def analyse(found: Mapping[str, Values], folder: Path) -> Outcome:
    """Tables and figures."""
    one = SIZES[folder.name]
    interval = 1e-3 * one.timestep_fs * EVERY
    first, last = (round(lag / interval) for lag in one.lags_ps)
    lags = list(range(first, last + 1, max(1, (last - first) // 6)))
    made: dict[tuple[str, float], list[Values]] = {}
    for task in plan(folder.name):
        if task.name in found:
            of = task.parameters["arm"], task.parameters["temperature"]
            made.setdefault(of, []).append(found[task.name])
    return findings(made, interval, lags, one.blocks, folder)


TITLE: Final = "Diffusion of a self-interstitial in iron."
STUDY: Final = Study(TITLE, Path(__file__), plan, run, analyse, cases)

if __name__ == "__main__":
    study_command(STUDY)()
