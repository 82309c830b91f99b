"""What `check` says of the run to come: what i-PI does, how long it takes, whether mixing pays."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mixserver.analysis.checks.cost import Alone, in_time, speed_finding
from mixserver.analysis.checks.planned_run import duration_findings, plan_findings
from mixserver.analysis.timed_evaluation import Times
from mixserver.config import load_case
from mixserver.ipi.input import read_input

INPUTS = Path(__file__).parents[3] / "inputs"


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (
            "silicon_vacancy",
            "NVT at 600 K (langevin thermostat), time step 1 fs; 200 steps, 0.2 ps",
        ),
        ("silicon_npt", "NPT at 300 K and 0 GPa (langevin thermostat), time step 2 fs; 1000 steps"),
        ("silicon_pimd", "NVT at 300 K (pile_l thermostat), time step 4 fs, 8 beads; 100 steps"),
        ("silicon_vacancy_neb", "neb, 5 beads; at most 300 steps"),
    ],
)
def test_what_i_pi_will_do_is_stated(case: str, said: str) -> None:
    (finding,) = plan_findings(read_input(INPUTS / case / "input.xml"))
    assert finding.level == "ok"
    assert finding.message.startswith(said)


def test_hours_count_beads_and_workers() -> None:
    case = load_case(INPUTS / "silicon_pimd")
    ipi = read_input(case.folder / "input.xml")
    (alone,) = duration_findings(case, ipi, 36.0)
    assert alone.figure == pytest.approx(100 * 4 * 36.0 / 3600.0)
    assert "8 evaluations a step, 2 at a time" in alone.message
    done = dataclasses.replace(ipi, step=60)  # a RESTART
    (left,) = duration_findings(case, done, 36.0)
    assert left.figure == pytest.approx(40 * 4 * 36.0 / 3600.0)


def test_whether_mixing_pays_is_said_with_what_to_change() -> None:
    fast = speed_finding(4000, 500, Times(0.05, 0.2), Alone(1.6, "measured"), 0.04)
    assert fast.level == "ok"
    assert fast.message.startswith("mixing is 8.0 times faster than the expensive model alone")
    slow = speed_finding(600, 500, Times(0.05, 0.4), Alone(0.2, "measured"), 0.04)
    assert slow.level == "warning"
    assert "mixing is 2.0 times slower" in slow.message
    assert "more than about 1440 atoms" in slow.message
    assert "--scan" in slow.message
    cheap = speed_finding(600, 300, Times(0.9, 0.4), Alone(0.9, "measured"), 0.9)
    assert "mixing is no faster" in cheap.message
    assert "mixserver distill" in cheap.message
    toys = speed_finding(600, 600, Times(0.01, 0.02), Alone(0.001, "measured"), 0.01)
    assert toys.level == "ok"


def test_times_have_the_unit_that_people_use() -> None:
    said = [in_time(seconds) for seconds in (0.035, 0.9999, 119.0, 600.0, 36000.0, 864000.0)]
    assert said == ["35 ms", "1 s", "119 s", "10 min", "10 h", "240 h (10 days)"]
