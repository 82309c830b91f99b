"""Helium shot at a hot W(100) slab: how often it is reflected, and how deep it goes.

    python study.py run [--size small|paper]
    python study.py status
    python study.py analyse

Every arm shoots at the same hot slabs and places, so that arms differ by their forces alone. A task
is a group of shots, which share one server and its workers.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from published import EAM, EXPERIMENT, MACE_ALONE, ML_MIX
from slab import cold_slab, helium_index, hot_slabs, shot, write_start

from mixserver.cli.study import study_command
from mixserver.config import Case, Local
from mixserver.studies.arms import Arm, write_case
from mixserver.studies.plot import COLOURS, MARKERS, figure
from mixserver.studies.shots import run_shots
from mixserver.studies.statistics import Estimate, beta_interval, mean_of_repeats
from mixserver.studies.study import Outcome, Study, Task, TaskContext, Values
from mixserver.studies.table import Cell, Table

HERE: Final = Path(__file__).resolve().parent
SOCKET: Final = "w_he_implantation"
ARMS: Final = (Arm("all-expensive"), Arm("force"), Arm("all-cheap"))
BOUND: Final = 0.01
"""Of the helium atom's energy: the largest error of the integrator that is not told."""
ENDS: Final = ("reflected", "stopped", "passed", "undecided")


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How large, how long and how many."""

    cells: tuple[int, int, int]
    energies: tuple[float, ...]
    groups: int
    """Of shots, for each arm and energy."""
    shots: int
    """In a group, and how many of them at a time."""
    at_once: int
    hot_steps: int
    """Of the slab alone, 1 fs each; shots start from its second half."""
    settings: Mapping[str, float]
    """Of `Projectile`."""
    region: Mapping[str, Any]
    """Instead of the case's."""


SIZES: Final = {
    "small": Size(
        cells=(4, 4, 6),
        energies=(20.0, 40.0, 80.0),
        groups=50,
        shots=2,
        at_once=1,
        hot_steps=1000,
        settings={
            "limit_fs": 300.0,
            "longest_fs": 0.4,
            "farthest": 0.05,
            "still_ev": 0.3,
            "still_fs": 50.0,
        },
        region={},
    ),
    "paper": Size(
        cells=(15, 15, 30),
        energies=(10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0),
        groups=50,
        shots=10,
        at_once=4,
        hot_steps=10_000,
        settings={"limit_fs": 1000.0, "longest_fs": 0.1, "farthest": 0.02},
        region={"core_radius": 6.0, "blend_width": 4.0, "buffer_width": "exact"},
    ),
}


def plan(size: str) -> list[Task]:
    """The groups of shots; all arms and energies get their first ones first."""
    one = SIZES[size]
    case = b"".join((HERE / name).read_bytes() for name in ("mix.toml", "input.xml", "slab.xml"))
    tasks = []
    for group in range(one.groups):
        for energy in one.energies:
            for arm in ARMS:
                parameters = {
                    "arm": arm.kind,
                    "energy": energy,
                    "first": group * one.shots,
                    "shots": one.shots,
                    "cells": list(one.cells),
                    "hot_steps": one.hot_steps,
                    "settings": dict(one.settings),
                    "region": dict(one.region),
                    "case": zlib.crc32(case),
                }
                tasks.append(Task(f"{arm.kind}-{energy:g}eV-{group + 1:02d}", parameters))
    return tasks


def cases(size: str, base: Case, workers: tuple[Local, ...], folder: Path) -> list[Case]:
    """The cases of all arms, to be checked before anything runs."""
    one = SIZES[size]
    return [arm_case(folder / arm.label, base, workers, arm, one.cells, one.region) for arm in ARMS]


def arm_case(
    folder: Path,
    base: Case,
    workers: Sequence[Local],
    arm: Arm,
    cells: Sequence[int],
    region: Mapping[str, Any],
) -> Case:
    """The case of an arm, with a helium atom over the cold slab."""
    folder.mkdir(parents=True, exist_ok=True)
    write_start(folder, cells)
    structure = str(folder / "init.xyz")
    changes = {"upstream": {"structure": structure}, "region": dict(region)}
    files = {"file": structure, "velocities": str(folder / "velocities.xyz")}
    text = (base.folder / base.config.ipi.input).read_text(encoding="utf-8")
    text = text.replace("(atom=192)", f"(atom={helium_index(cells)})")
    mine = Arm(arm.kind, changes=changes)
    return write_case(folder, base, mine, workers, files, text=text.encode())


async def run(context: TaskContext) -> Values:
    """One group of shots."""
    mine = context.task.parameters
    cells, first = mine["cells"], mine["first"]
    hot = await hot_slabs(context)
    case = arm_case(
        context.folder / "case",
        context.base,
        context.workers,
        Arm(mine["arm"]),
        cells,
        mine["region"],
    )
    cold = cold_slab(cells, helium=True)
    shots = [
        shot(cold, hot, number, mine["energy"], mine["settings"])
        for number in range(first, first + mine["shots"])
    ]
    at_once = next(size.at_once for size in SIZES.values() if list(size.cells) == cells)
    ended = await run_shots(context, case, shots, socket=SOCKET, at_once=at_once)
    return {"shots": [msgspec.to_builtins(one) for one in ended]}


def counted(found: Mapping[str, Values], size: str, arm: str, energy: float) -> list[Values]:
    """The shots of an arm at an energy, up to the first group that is not done.

    A reflected shot takes less time than one that stays, so counting whatever is done first would
    count too many of them.
    """
    shots: list[Values] = []
    for task in plan(size):
        if (task.parameters["arm"], task.parameters["energy"]) == (arm, energy):
            if task.name not in found:
                break
            shots += found[task.name]["shots"]
    return shots


def depths(shots: Sequence[Values]) -> Estimate | None:
    """Mean z over the surface of the atoms that stayed, Å; None if fewer than two did."""
    stayed = [one["place"][2] for one in shots if one["end"] == "stopped"]
    return mean_of_repeats(stayed) if len(stayed) > 1 else None


def analyse(found: Mapping[str, Values], folder: Path) -> Outcome:
    """Tables and figures."""
    size = folder.name
    rows: list[list[Cell]] = []
    ends: list[list[Cell]] = []
    remarks: list[str] = []
    drawn: dict[str, list[tuple[float, list[Values]]]] = {}
    for arm in ARMS:
        for energy in SIZES[size].energies:
            shots = counted(found, size, arm.kind, energy)
            if not shots:
                continue
            drawn.setdefault(arm.kind, []).append((energy, shots))
            count = {end: sum(one["end"] == end for one in shots) for end in ENDS}
            rate = count["reflected"] / len(shots)
            low, high = beta_interval(count["reflected"], len(shots))
            interval = f"{low:.2f} to {high:.2f}"
            rows.append([arm.kind, energy, len(shots), rate, interval, depths(shots)])
            conserved = arm.kind != "force"  # no energy belongs to mixed forces
            largest = {
                name: max(abs(one[name]) for one in shots)
                for name in ("drift", "largest", "mismatch")
            }
            ends.append(
                [
                    *(arm.kind, energy, *count.values()),
                    largest["drift"] if conserved else None,
                    largest["largest"] if conserved else None,
                    largest["mismatch"],
                    round(float(np.mean([one["steps"] for one in shots]))),
                ]
            )
            where = f"{arm.kind}, {energy:g} eV"
            remarks += _remarks(where, count, len(shots))
            error = largest["largest" if conserved else "mismatch"]
            if error > BOUND * energy:
                remarks.append(
                    f"{where}: the integrator's error reached {error:.2g} eV, more than "
                    f"{100.0 * BOUND:g} % of the helium atom's energy. Take shorter steps: "
                    "`farthest`, `longest_fs`."
                )
    plot(drawn, folder / "implantation.png")
    return Outcome(
        tables=[
            Table(
                "Reflection and depth",
                ["arm", "E (eV)", "shots", "R", "95 %", "mean depth (Å)"],
                rows,
            ),
            Table(
                "How shots ended, and errors of energy (largest of all shots)",
                [
                    *("arm", "E (eV)", *ENDS, "at the end (eV)", "at any step (eV)"),
                    *("against the work (eV)", "steps"),
                ],
                ends,
            ),
        ],
        figures=["implantation.png"],
        remarks=remarks,
    )


def _remarks(where: str, count: Mapping[str, int], shots: int) -> list[str]:
    found = []
    if count["undecided"]:
        found.append(
            f"{where}: {count['undecided']} of {shots} shots never ended: at the end of their time "
            "the atom was above the surface but had not left. They count as not reflected."
        )
    if count["passed"]:
        found.append(
            f"{where}: {count['passed']} of {shots} atoms came out below, so the slab is too thin "
            "for this energy. They count as not reflected, and have no depth."
        )
    return found


def plot(drawn: Mapping[str, Sequence[tuple[float, list[Values]]]], file: Path) -> None:
    """R(E) and depths, with what others found."""
    with figure(file, 2) as (left, right):
        for label, values, colour in (
            ("ML-MIX, mixed", ML_MIX, COLOURS["paper"]),
            ("ML-MIX, MACE alone", MACE_ALONE, COLOURS["other"]),
        ):
            rates, deep, errors = np.transpose(list(values.values()))
            left.plot(list(values), rates, "x:", color=colour, lw=0.8, label=label)
            style = {"fmt": "x:", "color": colour, "lw": 0.8, "label": label}
            right.errorbar(list(values), deep, yerr=errors, **style)
        left.plot(list(EAM), list(EAM.values()), "+:", color=COLOURS["grid"], lw=0.8, label="EAM")
        style = {"color": COLOURS["experiment"], "ms": 9, "label": "experiment"}
        left.plot(list(EXPERIMENT), list(EXPERIMENT.values()), "*", **style)
        for at, (kind, series) in enumerate(drawn.items()):
            shift = float(at - 1)
            style = {"fmt": MARKERS[kind], "color": COLOURS[kind], "capsize": 3.0, "label": kind}
            rates, bars = [], []
            for _, shots in series:
                reflected = sum(one["end"] == "reflected" for one in shots)
                rate = reflected / len(shots)
                low, high = beta_interval(reflected, len(shots))
                rates.append(rate)
                bars.append((max(0.0, rate - low), max(0.0, high - rate)))
            x = [energy + shift for energy, _ in series]
            left.errorbar(x, rates, yerr=np.transpose(bars), **style)
            known = [(e + shift, d) for e, s in series if (d := depths(s)) is not None]
            if known:
                y = [one.value for _, one in known]
                right.errorbar([e for e, _ in known], y, yerr=[d.error for _, d in known], **style)
        left.set(ylabel="reflected fraction (95 %)", ylim=(0.0, 1.03))
        right.set(ylabel="mean depth of those that stay (Å)")
        for axes in (left, right):
            axes.set(xlabel="energy of the helium atom (eV)")


STUDY = Study("Helium shot at a hot W(100) slab.", Path(__file__), plan, run, analyse, cases)

if __name__ == "__main__":
    study_command(STUDY)()
