"""A study of the minimal case in seconds: the mean potential energy of argon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mixserver.analysis.run_properties import read_properties
from mixserver.cli.study import study_command
from mixserver.config import Case, Local
from mixserver.core.errors import ConfigError
from mixserver.studies.arms import Arm, write_case
from mixserver.studies.md import run_segments
from mixserver.studies.plot import figure, points
from mixserver.studies.statistics import Estimate, series_mean
from mixserver.studies.study import Outcome, Study, Task, TaskContext, Values
from mixserver.studies.table import Table

ARMS = {arm.label: arm for arm in (Arm("energy"), Arm("all-cheap"))}


def plan(size: str) -> Sequence[Task]:
    made = [Task(arm, {"arm": arm, "seed": 7, "steps": 40}) for arm in ARMS]
    if size == "small":
        return made
    return [Task("bad", {"arm": "bad"}), Task("worse", {"arm": "worse"}), *made]


def case_of(task: Task, base: Case, workers: tuple[Local, ...], folder: Path) -> Case:
    values = {"seed": str(task.parameters["seed"]), "total_steps": str(task.parameters["steps"])}
    return write_case(folder, base, ARMS[task.parameters["arm"]], workers, values)


async def run(context: TaskContext) -> Values:
    if context.task.name not in ARMS:
        raise ConfigError("this task always fails")
    case = case_of(context.task, context.base, context.workers, context.folder / "case")
    runs = await run_segments(context, case, segments=2)
    energies = read_properties(runs, ("step", "potential")).columns["potential"]
    mean = series_mean(energies)
    return {"mean": mean.value, "error": mean.error, "rows": len(energies)}


def analyse(found: Mapping[str, Values], folder: Path) -> Outcome:
    rows = [(name, Estimate(one["mean"], one["error"])) for name, one in found.items()]
    with figure(folder / "energies.png") as (axes,):
        points(axes, range(len(rows)), [row[1] for row in rows], "energy", "energy")
    return Outcome([Table("Energies", ["task", "energy (eV)"], rows)], ["energies.png"])


def cases(size: str, base: Case, workers: tuple[Local, ...], folder: Path) -> Sequence[Case]:
    return [case_of(task, base, workers, folder / task.name) for task in plan("small")]


STUDY = Study("Argon.", Path(__file__), plan, run, analyse, cases)

if __name__ == "__main__":
    study_command(STUDY)()
