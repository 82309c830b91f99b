"""Results of tasks: kept with what they were made with, never mixed; tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixserver.core.errors import ConfigError
from mixserver.studies.statistics import Estimate
from mixserver.studies.study import Outcome, Results, Study, Task, TaskContext, Values, task_lock
from mixserver.studies.table import Table


async def _run(context: TaskContext) -> Values:
    return {}


def study(folder: Path, *tasks: Task) -> Results:
    made = Study(
        "A study.", folder / "study.py", lambda size: tasks, _run, lambda found, at: Outcome([])
    )
    return Results(made, "small")


MODELS = {"cheap": "a", "expensive": "b"}


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    task = Task("one", {"radius": 4.0, "seeds": (1, 2)})
    results = study(tmp_path, task)
    assert results.read(task, MODELS) is None
    results.task_folder(task).mkdir(parents=True)
    results.write(task, MODELS, {"mean": 0.1 + 0.2, "names": ["a"]})
    assert results.read_all(MODELS) == {"one": {"mean": 0.1 + 0.2, "names": ["a"]}}


def test_a_result_of_other_settings_is_refused(tmp_path: Path) -> None:
    then, now = Task("one", {"radius": 4.0}), Task("one", {"radius": 6.0})
    results = study(tmp_path, now)
    results.task_folder(then).mkdir(parents=True)
    results.write(then, MODELS, {"mean": 1.0})
    with pytest.raises(ConfigError, match=r"parameters.radius 4.0 then, 6.0 now\. Delete"):
        results.read(now, MODELS)
    with pytest.raises(ConfigError, match=r"made_with.cheap 'a' then, 'c' now"):
        results.read(then, {**MODELS, "cheap": "c"})


def test_a_result_knows_only_the_models_that_its_task_uses(tmp_path: Path) -> None:
    task = Task("one", {"radius": 4.0}, roles=("expensive",))
    results = study(tmp_path, task)
    results.task_folder(task).mkdir(parents=True)
    results.write(task, MODELS, {"mean": 1.0})
    assert results.read(task, {**MODELS, "cheap": "c"}) == {"mean": 1.0}
    with pytest.raises(ConfigError, match=r"made_with.expensive 'b' then, 'c' now"):
        results.read(task, {**MODELS, "expensive": "c"})


def test_results_of_earlier_versions_are_compared_as_far_as_they_know(tmp_path: Path) -> None:
    task = Task("one", {})
    results = study(tmp_path, task)
    results.task_folder(task).mkdir(parents=True)
    file = results.task_folder(task) / "result.json"
    for name in ("models", "made_with"):
        known = {"cheap": "a", "of an earlier version": "x"}
        file.write_text(json.dumps({"parameters": {}, name: known, "values": {"mean": 1.0}}))
        assert results.read(task, MODELS) == {"mean": 1.0}
        with pytest.raises(ConfigError, match=r"made_with.cheap 'a' then, 'c' now"):
            results.read(task, {**MODELS, "cheap": "c"})


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"parameters": {}, "made_with": {}}'])
def test_a_damaged_result_is_refused(tmp_path: Path, text: str) -> None:
    task = Task("one", {})
    results = study(tmp_path, task)
    results.task_folder(task).mkdir(parents=True)
    (results.task_folder(task) / "result.json").write_text(text)
    with pytest.raises(ConfigError, match="delete it to make the task again"):
        results.read(task, MODELS)


def test_names_are_those_of_folders_and_differ(tmp_path: Path) -> None:
    for tasks in ([Task("../x", {})], [Task("a", {}), Task("a", {})], [Task("", {})]):
        with pytest.raises(ConfigError, match="tasks need names"):
            study(tmp_path, *tasks).study.tasks("small")
    with pytest.raises(ConfigError, match="small, paper"):
        study(tmp_path).study.tasks("medium")


def test_two_processes_do_not_make_one_task(tmp_path: Path) -> None:
    with task_lock(tmp_path) as mine, task_lock(tmp_path) as other:
        assert mine
        assert not other
    with task_lock(tmp_path) as again:
        assert again


def test_tables() -> None:
    table = Table(
        "T", ["arm", "F (eV/Å)", "n"], [["a|b", Estimate(1.234, 0.056), 3], ["c", 0.5, None]]
    )
    assert table.markdown().splitlines() == [
        "| arm | F (eV/Å) | n |",
        "| --- | --- | --- |",
        "| a\\|b | 1.234 ± 0.056 | 3 |",
        "| c | 0.5 |  |",
    ]
    data = json.loads(json.dumps(table.as_json()))
    assert data["rows"][0] == {"arm": "a|b", "F (eV/Å)": [1.234, 0.056], "n": 3}
    with pytest.raises(ConfigError, match="3 columns, a row 1 cells"):
        Table("T", ["a", "b", "c"], [["x"]])
