"""What a run warns of: each cause once, beyond its bound, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mixserver.config import Config, load_case
from mixserver.dispatch.tally import WorkerTally
from mixserver.dispatch.views import WorkerView
from mixserver.server.records.report import Report
from mixserver.server.warnings.report_checks import ReportChecks
from mixserver.server.warnings.run_checks import PropertyChecks, WorkerChecks
from mixserver.server.warnings.warning_log import WarningLog, read_warnings

INPUTS = Path(__file__).parents[3] / "inputs"
ENERGY = load_case(INPUTS / "minimal").config
FORCE = load_case(INPUTS / "silicon_vacancy").config
ATOMS = 1000
SOUND = Report(evaluation=0, seeds=2, core=20, blend=140, mismatch_rms=0.1)


@pytest.fixture
def warnings(tmp_path: Path) -> WarningLog:
    return WarningLog(tmp_path)


def _kinds(warnings: WarningLog) -> list[str]:
    return [warning.kind for warning in warnings.found]


def _see(checks: ReportChecks, count: int, **changes: object) -> None:
    for number in range(count):
        checks(msgspec.structs.replace(SOUND, evaluation=number, **changes))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, ""),
        ({"seeds": 0, "core": 0, "blend": 0}, "seeds"),
        ({"core": 200, "blend": 290}, ""),
        ({"core": 200, "blend": 310}, "region"),
        ({"work": 0.9}, ""),
        ({"work": -1.1}, "work"),
    ],
)
def test_a_report_beyond_a_bound_is_warned_of_once(
    warnings: WarningLog, changes: dict[str, object], kind: str
) -> None:
    checks = ReportChecks(FORCE, ATOMS, warnings)
    _see(checks, 1)
    _see(checks, 5, **changes)
    assert _kinds(warnings) == [kind] * bool(kind)


@pytest.mark.parametrize(("count", "kinds"), [(100, []), (101, ["seeds"])])
def test_a_criterion_has_time_to_choose_its_first_seeds(
    warnings: WarningLog, count: int, kinds: list[str]
) -> None:
    _see(ReportChecks(FORCE, ATOMS, warnings), count, seeds=0)
    assert _kinds(warnings) == kinds


def test_the_cheap_channel_has_no_region_to_lose(warnings: WarningLog) -> None:
    _see(ReportChecks(FORCE, ATOMS, warnings), 5, channel="cheap", seeds=0)
    assert _kinds(warnings) == []


@pytest.mark.parametrize(("later", "kinds"), [(0.19, []), (0.21, ["mismatch"])])
def test_models_that_differ_more_than_at_first(
    warnings: WarningLog, later: float, kinds: list[str]
) -> None:
    checks = ReportChecks(FORCE, ATOMS, warnings)
    _see(checks, 100, mismatch_rms=1e-4)  # while it heats up
    _see(checks, 200, mismatch_rms=0.1)
    _see(checks, 300, mismatch_rms=later)
    assert _kinds(warnings) == kinds


@pytest.mark.parametrize(("kelvin", "kinds"), [(760.0, []), (800.0, ["core_temperature"])])
def test_a_core_that_is_hotter_than_the_target(
    warnings: WarningLog, kelvin: float, kinds: list[str]
) -> None:
    checks = ReportChecks(FORCE, ATOMS, warnings, target=600.0, timestep_fs=1.0)
    _see(checks, 1001, core=100, kelvin_core=1200.0)  # the start does not count
    for number in range(1001, 2100):
        checks(msgspec.structs.replace(SOUND, evaluation=number, core=100, kelvin_core=kelvin))
    assert _kinds(warnings) == kinds


@pytest.mark.parametrize(("scale", "kinds"), [(1.0, []), (1.6, ["core_temperature"])])
def test_the_temperature_of_one_atom_fluctuates(
    warnings: WarningLog, scale: float, kinds: list[str]
) -> None:
    checks = ReportChecks(FORCE, ATOMS, warnings, target=600.0, timestep_fs=50.0)
    kelvin = scale * 200.0 * np.random.default_rng(4).chisquare(3, 20000)
    for number, value in enumerate(kelvin.tolist()):  # a nanosecond
        checks(msgspec.structs.replace(SOUND, evaluation=number, core=1, kelvin_core=value))
    assert _kinds(warnings) == kinds


@pytest.mark.parametrize(
    ("config", "energy", "kelvin", "kinds"),
    [
        (ENERGY, 0.0, 300.0, []),
        (ENERGY, 2.1, 300.0, ["conserved"]),
        (FORCE, 2.1, 300.0, []),  # forces that are mixed conserve none
        (ENERGY, 0.0, 400.0, ["temperature"]),
        (ENERGY, 0.0, 200.0, ["temperature"]),
    ],
)
def test_properties_beyond_a_bound(
    warnings: WarningLog, config: Config, energy: float, kelvin: float, kinds: list[str]
) -> None:
    checks = PropertyChecks(config, ATOMS, warnings, target=300.0, picoseconds=1e-3)
    for step in range(2500):
        hot = 600.0 if step < 500 else kelvin
        line = {"step": float(step), "temperature": hot, "conserved": energy * (step > 9)}
        assert checks.look(line, None) == ""
    assert _kinds(warnings) == kinds


def test_lambda_work_is_not_held_against_the_conserved_energy(warnings: WarningLog) -> None:
    checks = PropertyChecks(ENERGY, ATOMS, warnings)
    for step in range(9):
        report = Report(evaluation=step, work=1.0 * step)
        checks.look({"step": float(step), "conserved": 5.0 + step}, report)
    assert _kinds(warnings) == []


@pytest.mark.parametrize(("name", "value"), [("conserved", float("nan")), ("temperature", 1e7)])
def test_a_run_that_has_blown_up_ends(warnings: WarningLog, name: str, value: float) -> None:
    checks = PropertyChecks(ENERGY, ATOMS, warnings)
    assert checks.look({"step": 1.0, name: 300.0}, None) == ""
    assert name in checks.look({"step": 2.0, name: value}, None)


def _worker(jobs: int, seconds: float) -> WorkerView:
    tally = WorkerTally(jobs, seconds)
    return WorkerView("a", "cheap", "toy", "m", "d", "node7", "idle", None, None, 0.0, tally)


@pytest.mark.parametrize(
    ("pace", "kinds"),
    [
        (lambda at: 0.1, []),
        (lambda at: 0.1 if at < 5 else 0.4, ["slow worker a"]),
        (lambda at: 0.4 if at == 5 else 0.1, []),  # once is chance
        (lambda at: 1e-4 if at < 5 else 1e-3, []),  # not noticeable
    ],
)
def test_a_worker_that_slows_down(
    warnings: WarningLog, pace: Callable[[int], float], kinds: list[str]
) -> None:
    checks = WorkerChecks(ENERGY, warnings)
    seconds = 0.0
    for at in range(9):
        seconds += 10 * pace(at)
        checks.look([_worker(10 * (at + 1), seconds)])
    assert _kinds(warnings) == kinds
    checks.look([_worker(3, 0.3)])  # it has joined again
    assert _kinds(warnings) == kinds


def test_warnings_are_read_as_they_were_written(warnings: WarningLog, tmp_path: Path) -> None:
    assert read_warnings(tmp_path) == ()
    warnings.warn("work", "one", evaluation=7)
    warnings.warn("work", "again", evaluation=8)
    warnings.warn("pair", "two", step=3)
    assert read_warnings(tmp_path) == warnings.found
    assert [w.message for w in warnings.found] == ["one", "two"]
    file = tmp_path / "warnings.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    assert [w.message for w in read_warnings(tmp_path)] == ["one"]
