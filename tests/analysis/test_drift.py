"""The drift of i-PI's conserved quantity, from files as i-PI and mixserver write them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from mixserver.analysis.drift import energy_drift
from mixserver.analysis.records import joined_reports
from mixserver.analysis.run_properties import read_properties
from mixserver.core.errors import ConfigError
from mixserver.server.records.report import Report, header, line

ATOMS = 100


def _run(folder: Path, conserved: np.ndarray, work: np.ndarray | None = None) -> Path:
    steps = np.arange(len(conserved))
    rows = np.column_stack((steps, 1e-3 * steps, conserved, np.full(len(steps), 300.0)))
    heads = (
        "step : n",
        "time{picosecond} : t",
        "conserved{electronvolt} : E",
        "temperature{kelvin} : T",
    )
    with (folder / "simulation.out").open("w") as file:
        for at, head in enumerate(heads, 1):
            file.write(f"# column   {at}     --> {head}\n")
        np.savetxt(file, rows, fmt="%.12e")
    if work is not None:
        lines = [line(Report(evaluation=k, work=w)) for k, w in enumerate(work)]
        (folder / "mixserver.out").write_text(header() + "".join(lines))
    return folder


def test_a_slope_and_the_noise_about_it_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    steps = np.arange(5000)
    noise = rng.normal(scale=2e-4, size=len(steps))
    found = energy_drift(_run(tmp_path, -50.0 + 3e-4 * 1e-3 * steps + noise), ATOMS)
    assert found.picoseconds == pytest.approx(4.999)
    assert found.drift == pytest.approx(3.0, abs=4 * found.error)
    assert 0.0 < found.error < 0.1
    assert found.fluctuation == pytest.approx(2.0, rel=0.05)
    assert found.temperature == 300.0


def test_what_is_skipped_does_not_count(tmp_path: Path) -> None:
    energy = np.full(2000, -50.0)
    energy[:500] += 1.0
    assert energy_drift(_run(tmp_path, energy), ATOMS).drift < -100.0
    assert energy_drift(tmp_path, ATOMS, skip=0.5).drift == pytest.approx(0.0, abs=1e-6)


def test_work_is_taken_off(tmp_path: Path) -> None:
    work = np.zeros(1000)
    work[400:] = 0.3
    found = energy_drift(_run(tmp_path, -50.0 + work, work), ATOMS)
    assert found.drift == pytest.approx(0.0, abs=1e-6)
    assert found.work == pytest.approx(3000.0)


def test_work_that_cannot_be_told_step_by_step_is_refused(tmp_path: Path) -> None:
    _run(tmp_path, np.full(100, -50.0), np.linspace(0.0, 1.0, 400))
    with pytest.raises(ConfigError, match="one bead and one force component"):
        energy_drift(tmp_path, ATOMS)


def test_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="20 are the least"):
        energy_drift(_run(tmp_path, np.full(15, -50.0)), ATOMS)
    with pytest.raises(ConfigError, match="conserved"):
        energy_drift(tmp_path.parent, ATOMS)


COLUMNS = ("step", "cell_abcABC", "time{femtosecond}", "conserved", "temperature{kelvin}")
HARTREE = 27.211386


def _part(folder: Path, steps: range, begun: int | None = None, lost: int = 0) -> Path:
    """A part of one long run: conserved falls by 1e-4 eV a step but for work of 0.3 eV at 60.

    Args:
        folder: to write into.
        steps: that i-PI printed.
        begun: steps made already, in a restarted run; it then has no header.
        lost: evaluations that were not recorded, because the run was killed.
    """
    folder.mkdir()
    tag = "input.xml" if begun is None else "RESTART.in"
    step = "" if begun is None else f"<step>{begun}</step>"
    (folder / tag).write_text(
        f"<simulation>{step}<output prefix='run'><properties filename='props' shape='(5)'> "
        f"[ {', '.join(COLUMNS)} ] </properties></output></simulation>"
    )
    (folder / "mix.toml").write_text(
        '[upstream]\nstructure = "a"\naddress = "unix:a"\n[models.cheap]\n'
    )
    first = begun or 0
    with (folder / "run.props").open("w") as file:
        if begun is None:
            file.write("# column   1     --> step : n\n# cols.    2-7   --> cell_abcABC : c\n")
            for at, name in enumerate(COLUMNS[2:], 8):
                file.write(f"# column  {at:2}     --> {name} : x\n")
        for number in steps:
            energy = (-1e-4 * number + 0.3 * (number >= 60)) / HARTREE
            values = [number, *[9.0] * 6, 0.5 * number, energy, 300.0]
            file.write("  " + "   ".join(f"{value:16.8e}" for value in values) + "\n")
    done = range(steps[-1] - first + 1 - lost)
    reports = [Report(evaluation=n, work=1.0 + 0.3 * (n + first >= 60)) for n in done]
    (folder / "mixserver.out").write_text(header() + "".join(map(line, reports)))
    (folder / "mixserver.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, reports)))
    return folder


def test_restarted_runs_are_joined_at_the_step_they_go_on_from(tmp_path: Path) -> None:
    whole = _part(tmp_path / "whole", range(101))
    runs = [
        _part(tmp_path / "0001", range(48)),  # killed; gone on from its checkpoint of 40
        _part(tmp_path / "0002", range(41, 71), begun=40),
        _part(tmp_path / "0003", range(71, 101), begun=70),
    ]
    table = read_properties(runs)
    assert table.step.tolist() == list(range(101))
    assert table.run.tolist() == [0] * 41 + [1] * 30 + [2] * 30
    np.testing.assert_allclose(table.columns["time"], 0.5e-3 * np.arange(101))
    straight, joined = energy_drift(whole, ATOMS), energy_drift(runs, ATOMS)
    assert joined.runs == ("0001", "0002", "0003")
    assert joined.drift == pytest.approx(straight.drift, rel=1e-6)
    assert joined.drift == pytest.approx(-1e-4 * 1e6 / ATOMS / 0.5e-3, rel=1e-4)
    assert joined.work == straight.work == pytest.approx(3000.0)
    assert joined.fluctuation < 0.1
    assert [report.evaluation for report in joined_reports(runs)] == list(range(101))
    alone = energy_drift(runs[1:2], ATOMS)
    assert alone.picoseconds == pytest.approx(0.0145)
    assert alone.drift == pytest.approx(joined.drift, rel=1e-3)


def test_evaluations_that_were_not_recorded_do_not_count(tmp_path: Path) -> None:
    killed = _part(tmp_path / "0001", range(70), lost=12)  # after 57, before the work is done
    found = energy_drift(killed, ATOMS)
    assert found.work == 0.0
    assert found.drift == pytest.approx(-1e-4 * 1e6 / ATOMS / 0.5e-3, rel=1e-3)


def test_steps_that_were_appended_again_are_left_out(tmp_path: Path) -> None:
    run = _part(tmp_path / "0001", range(80))
    lines = (run / "run.props").read_text().splitlines(keepends=True)
    (run / "run.props").write_text("".join(lines[:5] + lines[5:65] + lines[45:]))
    assert read_properties([run]).step.tolist() == list(range(80))


def test_what_is_not_printed_is_named(tmp_path: Path) -> None:
    run = _part(tmp_path / "0001", range(41, 71), begun=40)
    text = (run / "RESTART.in").read_text()
    (run / "RESTART.in").write_text(text.replace(", conserved", ", potential"))
    with pytest.raises(ConfigError, match=r"run\.props \(step, cell_abcABC, time, potential, temp"):
        energy_drift(run, ATOMS)
    (run / "RESTART.in").write_text(text.replace("conserved", "no_such"))
    with pytest.raises(ConfigError, match="no properties file of i-PI with step, time, conserved"):
        energy_drift(run, ATOMS)
    (run / "run.props").unlink()
    with pytest.raises(ConfigError, match="there is none"):
        energy_drift(run, ATOMS)


def test_a_line_cut_short_is_passed_over_and_a_damaged_one_told(tmp_path: Path) -> None:
    run = _part(tmp_path / "0001", range(60))
    lines = (run / "run.props").read_text().splitlines(keepends=True)
    (run / "run.props").write_text("".join(lines)[:-30])
    assert read_properties([run]).step.tolist() == list(range(59))
    lines[30] = lines[30][:40] + "\n"
    (run / "run.props").write_text("".join(lines))
    with pytest.raises(ConfigError, match="line 26 of its values must hold 10 numbers"):
        read_properties([run])
