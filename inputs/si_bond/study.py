"""The mean force on a stretched bond against the core radius; see README.md.

python study.py run
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from crystal import write_crystal
from numpy.typing import NDArray

from mixserver.cli.study import study_command
from mixserver.config import Case, Local
from mixserver.core.errors import ConfigError
from mixserver.core.structures import read_structure
from mixserver.ipi.output import Column, read_columns
from mixserver.studies.arms import Arm, Kind, write_case
from mixserver.studies.md import run_segments
from mixserver.studies.plot import band, figure, points
from mixserver.studies.statistics import Estimate, SeriesMean, series_mean
from mixserver.studies.study import Outcome, Study, Task, TaskContext, Values
from mixserver.studies.table import Table

RADII = (0.0, 4.0, 6.0, 8.0, 10.0)
"""Å, of the core around each held atom; those of ML-MIX."""
BUFFER = 6.0
"""Å of buffer under force mixing, as in ML-MIX: thinner than the MACE's receptive field of 10."""
SIZES = {
    "small": {"cells": 4, "steps": 500, "skip": 100, "timestep": 2.0, "segments": 2},
    "paper": {"cells": 10, "steps": 50000, "skip": 1000, "timestep": 1.0, "segments": 50},
}
"""Atoms are 8 cells³; steps left out at the beginning; fs."""
REFERENCE = "all-expensive"


def plan(size: str) -> Sequence[Task]:
    """Both ends first, then the cores of both ways to mix."""
    arms: list[tuple[Kind, float | None]] = [(REFERENCE, None), ("all-cheap", None)]
    arms += [(kind, radius) for radius in RADII for kind in ("energy", "force")]
    return [
        Task(
            kind if radius is None else f"{kind}-{radius:g}",
            {"kind": kind, "core": radius, "buffer": BUFFER, **SIZES[size]},
        )
        for kind, radius in arms
    ]


def case_of(task: Task, base: Case, workers: tuple[Local, ...], folder: Path) -> Case:
    """The case of an arm. All have the same seed, so the same velocities and the same noise."""
    wanted = task.parameters
    changes: dict[str, object] = {"upstream": {"structure": "crystal.xyz"}}
    if wanted["core"] is not None:
        changes["region"] = {"core_radius": wanted["core"]}
    if wanted["kind"] == "force":
        thin = {"buffer_width": wanted["buffer"], "allow_thin_buffer": True}
        changes["region"] = {"core_radius": wanted["core"], **thin}
    folder.mkdir(parents=True, exist_ok=True)
    write_crystal(folder / "crystal.xyz", wanted["cells"])
    values = {
        "file": "crystal.xyz",
        "total_steps": str(wanted["steps"]),
        "timestep": str(wanted["timestep"]),
    }
    return write_case(folder, base, Arm(wanted["kind"], task.name, changes), workers, values)


def cases(size: str, base: Case, workers: tuple[Local, ...], folder: Path) -> Sequence[Case]:
    """Of every arm."""
    return [case_of(task, base, workers, folder / task.name) for task in plan(size)]


async def run(context: TaskContext) -> Values:
    """The tension of the bond at every step after the beginning."""
    wanted = context.task.parameters
    case = case_of(context.task, context.base, context.workers, context.folder / "case")
    runs = await run_segments(context, case, segments=wanted["segments"])
    tension = tensions(runs, case.structure, wanted["steps"])
    return {"tension": [round(one, 7) for one in tension[wanted["skip"] :].tolist()]}


def tensions(runs: Sequence[Path], structure: Path, steps: int) -> NDArray[np.float64]:
    """(steps,) eV/Å, (F1 - F2).u with u from atom 1 to atom 2: positive if they attract.

    Raises:
        ConfigError: a step is missing.
    """
    _, frame = read_structure(structure)
    along = frame.positions[1] - frame.positions[0]
    along /= np.linalg.norm(along)
    names = ("step", *(f"f{atom}{axis}" for atom in (0, 1) for axis in "xyz"))
    columns = {name: Column(at) for at, name in enumerate(names)}
    found: dict[int, float] = {}
    for folder in runs:  # a segment repeats the last step of the one before
        table = read_columns(folder / "simulation.bond", columns)
        apart = np.stack([table[f"f0{axis}"] - table[f"f1{axis}"] for axis in "xyz"], axis=1)
        found |= dict(
            zip(table["step"].astype(int).tolist(), (apart @ along).tolist(), strict=True)
        )
    if missing := [step for step in range(1, steps + 1) if step not in found]:
        raise ConfigError(
            f"{runs[-1]} has no forces of step {missing[0]}; delete the task's folder to repeat it"
        )
    return np.array([found[step] for step in range(1, steps + 1)])


def analyse(found: Mapping[str, Values], folder: Path) -> Outcome:
    """Mean tension of each arm, and its difference from all-expensive at the same noise."""
    series = {name: np.array(values["tension"]) for name, values in found.items()}
    means = {name: series_mean(one) for name, one in series.items()}
    reference = series.get(REFERENCE)
    apart: dict[str, SeriesMean] = {}
    if reference is not None:
        apart = {
            name: series_mean(x - reference) for name, x in series.items() if name != REFERENCE
        }
    rows = []
    for name, mean in means.items():
        other = apart.get(name)
        agrees = ""
        if other is not None:
            own = (mean.estimate - means[REFERENCE].estimate).error
            agrees = "yes" if abs(mean.value - means[REFERENCE].value) <= own else "no"
            agrees += ", yes" if abs(other.value) <= other.error else ", no"
        rows.append([name, mean.estimate, mean.time, other and other.estimate, agrees])
    table = Table(
        "Mean tension of the bond",
        [
            "arm, core (Å)",
            "mean (eV/Å)",
            "correlation time (steps)",
            "minus all-expensive, same noise (eV/Å)",
            "within one standard error: own, same noise",
        ],
        rows,
    )
    _draw(means, apart, folder / "tension.png")
    warned = [f"{name}: {one.warning}" for name, one in means.items() if one.warning]
    return Outcome([table], ["tension.png"], warned)


def _draw(means: Mapping[str, SeriesMean], apart: Mapping[str, SeriesMean], file: Path) -> None:
    with figure(file, 2) as (left, right):
        for name, label in ((REFERENCE, "all expensive"), ("all-cheap", "all cheap")):
            if name in means:
                band(left, means[name].estimate, name, label)
        if "all-cheap" in apart:
            band(right, apart["all-cheap"].estimate, "all-cheap", "all cheap")
        band(right, Estimate(0.0, 0.0), REFERENCE)
        for kind, shift in (("energy", -0.08), ("force", 0.08)):
            label = f"mixed by {'energies' if kind == 'energy' else 'forces'}"
            for axes, of in ((left, means), (right, apart)):
                there = [radius for radius in RADII if f"{kind}-{radius:g}" in of]
                known = [of[f"{kind}-{radius:g}"].estimate for radius in there]
                if there:
                    points(axes, there, known, kind, label, shift=shift, line=True)
        for axes in (left, right):
            axes.set_xlim(-0.6, max(RADII) + 0.6)
        left.set(xlabel="core radius (Å)", ylabel="mean tension (eV/Å)")
        right.set(xlabel="core radius (Å)", ylabel="minus all expensive, same noise (eV/Å)")


STUDY = Study(
    "The mean force on a stretched bond of silicon at 300 K, against the core radius.",
    Path(__file__),
    plan,
    run,
    analyse,
    cases,
)

if __name__ == "__main__":
    study_command(STUDY)()
