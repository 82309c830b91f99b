"""The report of a run: one page that needs nothing else, with all that the records say."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mixserver.analysis.report.content import how_ended, report_content
from mixserver.analysis.report.page import write_run_report
from mixserver.analysis.report.words import (
    mixing_in_words,
    region_in_words,
    surroundings_in_words,
)
from mixserver.analysis.run_series import read_series
from mixserver.config import load_case
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Topology
from mixserver.region.region import Region
from mixserver.server.records.recorder import Recorder
from mixserver.server.records.report import Report
from mixserver.server.runs import RunInfo, RunModel, note_end, run_lock
from mixserver.server.warnings.warning_log import WarningLog

INPUTS = Path(__file__).parents[3] / "inputs"


def _run(folder: Path, ended: str = "done") -> Path:
    """A run of two atoms with 11 evaluations, as mixserver writes it."""
    folder.mkdir(parents=True)
    frame = Topology(np.array([74, 2], dtype=np.int32)).frame(np.eye(3)[:2], 5.0 * np.eye(3))
    recorder = Recorder(folder)
    for number in range(11):
        recorder.record(
            Report(evaluation=number, seeds=1, core=1, ms_total=30.0, ms_expensive=20.0, halo=1),
            frame,
            Region(np.array([0.0, 1.0]), np.array([1])),
        )
    recorder.close()
    RunInfo(models={"cheap": RunModel("snap", "abc123")}, versions={"ipi": "9.9"}).write(folder)
    note_end(folder, ended)
    return folder


class _Page(HTMLParser):
    """The text of a page, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.fetched: list[str] = []
        self.pictures = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href") and value is not None:
                self.pictures += value.startswith("data:image/png;base64,")
                self.fetched += [] if value.startswith("data:") else [value]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_has_everything_in_it(tmp_path: Path) -> None:
    run = _run(tmp_path / "case/runs/0001")
    WarningLog(run).warn("work", "too much <work>", step=7)
    file = write_run_report(read_series([run]), tmp_path / "r.html")
    text = file.read_text()
    page = _Page(text)
    said = " ".join(page.words)
    assert page.fetched == []
    assert page.pictures == 3  # times, region, atoms
    assert "url(" not in text
    for part in ("case 0001", "too much <work>", "step 7", "abc123", "ipi 9.9", "HeW", "1 warning"):
        assert part in said
    assert "<work>" not in text  # escaped
    assert re.findall('class="(pass|warn|fail)"', text) == ["warn"]


@pytest.mark.parametrize(
    ("ended", "grade", "said"),
    [
        ("done", "pass", "All steps are made"),
        ("the time is up", "warn", "The time is up"),
        ("failed: it is 1e9 K", "fail", "Failed: it is 1e9 K"),
    ],
)
def test_the_verdict_tells_how_it_ended(tmp_path: Path, ended: str, grade: str, said: str) -> None:
    content = report_content(read_series([_run(tmp_path / "0001", ended)]))
    assert content.grade == grade
    assert content.verdict.startswith(said)
    assert content.verdict.endswith("without warnings.")


def test_the_last_step_is_that_of_the_restart_where_properties_are_rare(tmp_path: Path) -> None:
    run = _run(tmp_path / "0001")
    (run / "simulation.out").write_text(
        "# column   1     --> step : steps\n# column   2     --> time{picosecond} : time\n"
        "0 0.0\n20 0.02\n40 0.04\n"
    )
    (run / "input.xml").write_text(
        "<simulation><output prefix='simulation'><properties stride='20' filename='out'> "
        "[ step, time{picosecond} ] </properties></output><total_steps>50</total_steps>"
        "<ffsocket name='x'><address>x</address></ffsocket></simulation>"
    )
    shutil.copy(INPUTS / "minimal/mix.toml", run)
    assert report_content(read_series([run])).verdict.startswith("All steps are made: 40 of 50")
    (run / "RESTART").write_text("<simulation><step>50</step></simulation>")
    assert report_content(read_series([run])).verdict.startswith("All steps are made: 50 of 50")


def test_a_run_that_noted_no_end_is_looked_at(tmp_path: Path) -> None:
    run = _run(tmp_path / "0001", "")
    assert how_ended(run) == "ended"
    with run_lock(run):
        assert how_ended(run) == "running"
    (run / ".running").touch()
    assert how_ended(run) == "killed"
    (run / "failed.xyz").touch()
    assert how_ended(run).startswith("failed")
    note_end(run, "done")
    assert how_ended(run) == "done"


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    series = read_series([_run(tmp_path / "0001")])
    with pytest.raises(ConfigError, match="cannot be written"):
        write_run_report(series, tmp_path / "none/r.html")


def test_settings_are_told_in_words() -> None:
    vacancy, helium = (load_case(INPUTS / name).config for name in ("silicon_vacancy", "w_he"))
    assert vacancy.region is not None
    assert helium.region is not None
    assert region_in_words(vacancy.region) == (
        "around atoms with coord/atom cutoff 2.8 ≤ 3.6, chosen every 10 evaluations: core (λ = 1) "
        "within 4 Å, λ falls to 0 over the next 4 Å (quintic); changes of λ take 5 evaluations "
        "when it rises and 50 when it falls"
    )
    assert "forces are mixed" in mixing_in_words(vacancy)
    assert region_in_words(helium.region).startswith("around all atoms of He: core")
    assert region_in_words(helium.region).endswith("λ follows the atoms")
    assert mixing_in_words(helium).endswith("all forces are the gradient")
    assert surroundings_in_words(helium).endswith("energy mixing needs no buffer")


def test_what_was_sent_is_said_and_who_measures_the_speed_up(tmp_path: Path) -> None:
    series = read_series([_run(tmp_path / "0001")])
    config = load_case(INPUTS / "minimal").config
    content = report_content(replace(series, config=config, atoms=60))
    rows = {row[0]: row[1] for row in content.cost}
    assert rows["atoms sent to the expensive model"] == "2 of 60"
    assert rows["speed-up"] == "mixserver check CASE measures it"
