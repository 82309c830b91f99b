"""Plots of runs: time in ps, gaps as gaps, restarts joined, several runs side by side."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from cells import fcc
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from mixserver.analysis.find_run import find_run, run_label
from mixserver.analysis.plots import panels
from mixserver.analysis.plots.atoms import centred
from mixserver.analysis.plots.draw import draw, side_by_side
from mixserver.analysis.plots.lines import block_medians, draw_line, with_gaps
from mixserver.analysis.plots.structure import mean_square_displacement
from mixserver.analysis.run_series import RunSeries, read_series
from mixserver.core.errors import ConfigError
from mixserver.region.region import Region
from mixserver.server.records.report import Report
from mixserver.server.runs import RunInfo, new_run_folder


def _run(folder: Path, reports: list[Report], *, stride: int = 1, begun: int = 0) -> Path:
    """A run of 0.5 fs a step, as i-PI and mixserver write it; a continued one has no header."""
    folder.mkdir(parents=True)
    (folder / "mixserver.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, reports)))
    head = [
        "# column   1     --> step : s",
        "# column   2     --> time{picosecond} : t",
        "# column   3     --> temperature{kelvin} : T",
    ]
    names = "[ step, time{picosecond}, temperature{kelvin} ]"
    if begun:
        (folder / "RESTART.in").write_text(
            f"<simulation><step>{begun}</step><output prefix='simulation'><properties "
            f"filename='out'> {names} </properties></output></simulation>"
        )
    steps = range(begun, begun + len(reports), stride)
    lines = [f"{step} {5e-4 * step} {300 + step}" for step in (steps[1:] if begun else steps)]
    (folder / "simulation.out").write_text("\n".join([*([] if begun else head), *lines, ""]))
    return folder


def _series(reports: list[Report]) -> RunSeries:
    time = np.array([1e-3 * report.evaluation for report in reports])
    run = (Path("case/runs/0001"),)
    return RunSeries("a", run, tuple(reports), time, True, (), None, None, None, None, 10)


def test_evaluations_have_their_time_in_picoseconds(tmp_path: Path) -> None:
    run = _run(tmp_path / "0001", [Report(evaluation=n) for n in range(41)], stride=4)
    series = read_series([run])
    assert series.timed
    np.testing.assert_allclose(series.time, 5e-4 * np.arange(41), atol=1e-12)


def test_runs_are_joined_over_restarts_in_time(tmp_path: Path) -> None:
    runs = [
        _run(tmp_path / "0001", [Report(evaluation=n, core=1) for n in range(31)]),
        _run(tmp_path / "0002", [Report(evaluation=n, core=2) for n in range(21)], begun=20),
    ]
    series = read_series(runs)
    np.testing.assert_allclose(series.time, 5e-4 * np.arange(41), atol=1e-12)
    assert series.column("core").tolist() == [1.0] * 20 + [2.0] * 21
    assert series.restarts == pytest.approx((0.01,))


def test_several_evaluations_a_step_share_its_time(tmp_path: Path) -> None:
    reports = [Report(evaluation=n ^ 1, bead=n % 4) for n in range(84)]  # answered in pairs
    run = _run(tmp_path / "0001", reports)
    lines = (run / "simulation.out").read_text().splitlines()[: 3 + 21]
    (run / "simulation.out").write_text("\n".join([*lines, ""]))
    series = read_series([run])
    assert (series.time[0], series.time[-1]) == pytest.approx((0.0, 5e-4 * 20))
    assert np.all(np.diff(series.time) > 0.0)


def test_without_times_evaluations_are_counted(tmp_path: Path) -> None:
    (tmp_path / "mixserver.jsonl").write_bytes(msgspec.json.encode(Report(evaluation=0)))
    series = read_series([tmp_path])
    assert (series.timed, series.time.tolist()) == (False, [0.0])
    axes = panels.times(Figure().subplots(), series)
    assert axes.get_xlabel() == "evaluation"


def test_what_was_not_measured_is_a_gap_and_never_zero() -> None:
    reports = [
        Report(evaluation=n, mismatch_rms=None if 3 <= n < 6 else 1.0, mismatch_max=2.0)
        for n in range(10)
    ]
    axes = panels.mismatch(Figure().subplots(), _series(reports))
    (rms,) = [line for line in axes.get_lines() if line.get_label() == "blend, rms"]
    values = np.asarray(rms.get_ydata(), dtype=float)
    assert np.isnan(values).sum() == 3
    assert values[np.isfinite(values)].tolist() == [1.0] * 7
    assert "core, rms" not in {line.get_label() for line in axes.get_lines()}


@given(st.integers(2, 40), st.integers(2, 40), st.integers(4, 100))
def test_no_line_leads_over_a_part_without_records(before: int, after: int, missing: int) -> None:
    x = np.concatenate([np.arange(before), before + missing + np.arange(after)]).astype(float)
    spread, values = with_gaps(x, np.ones(len(x)))
    assert np.flatnonzero(np.isnan(values)).tolist() == [before]
    assert np.all(np.diff(spread) > 0.0)
    assert values[np.isfinite(values)].tolist() == [1.0] * len(x)


@given(st.integers(8, 99), st.integers(8, 99), st.integers(1, 50), st.integers(1, 50))
def test_another_interval_of_recording_is_no_gap(
    before: int, after: int, often: int, seldom: int
) -> None:
    x = np.cumsum(np.repeat([often, seldom], [before, after])).astype(float)
    assert np.isfinite(with_gaps(x, np.ones(len(x)))[1]).all()


@given(st.integers(1, 50), st.integers(1, 9))
def test_medians_of_blocks_pass_over_gaps(count: int, width: int) -> None:
    values = np.arange(count, dtype=float)
    values[::2] = np.nan
    x, median = block_medians(np.arange(count, dtype=float), values, width)
    assert len(x) == len(median) == -(-count // width)
    there = median[np.isfinite(median)]
    assert np.all((there >= 0.0) & (there < count))
    assert np.isfinite(median).any() == np.isfinite(values).any()


def test_a_value_alone_is_a_dot() -> None:
    axes = Figure().subplots()
    draw_line(axes, np.arange(5.0), np.array([1.0, np.nan, 2.0, np.nan, np.nan]), "k")
    _, dots = axes.get_lines()
    assert np.asarray(dots.get_ydata()).tolist() == [1.0, 2.0]


def test_the_net_force_has_a_panel_of_its_own() -> None:
    reports = [Report(evaluation=n, mismatch_max=2.0, net_force=1e-3) for n in range(3)]
    chosen = panels.panels_for([_series(reports)])
    assert panels.mismatch in chosen
    assert panels.net_force in chosen
    axes = panels.net_force(Figure().subplots(), _series(reports))
    assert [np.max(np.asarray(line.get_ydata())) for line in axes.get_lines()] == [1e-3]


def test_mixed_energies_show_gaps_and_the_pull_not_the_rounding_of_forces() -> None:
    reports = [
        Report(evaluation=n, gap_rms=1e-3, gap_max=2e-3, pull_max=5e-3, net_force=1e-15)
        for n in range(9)
    ]
    chosen = panels.panels_for([_series(reports)])
    assert panels.gap in chosen
    assert panels.pull in chosen
    assert panels.net_force not in chosen


def test_runs_side_by_side_have_their_names_and_one_y_axis(tmp_path: Path) -> None:
    one = _run(tmp_path / "a/runs/0001", [Report(evaluation=n, core=5) for n in range(9)])
    two = _run(tmp_path / "b/runs/0007", [Report(evaluation=n, core=9) for n in range(9)])
    series = [read_series([run]) for run in (one, two)]
    assert [run.name for run in series] == ["a 0001", "b 0007"]
    alone, both = draw(series[:1], tmp_path / "1.png"), draw(series, tmp_path / "2.png")
    with Image.open(alone) as first, Image.open(both) as second:
        assert first.size[0] == second.size[0]
        assert second.size[1] > first.size[1]
        assert len(np.unique(np.asarray(second.convert("L")))) > 50


def test_beside_a_run_that_mixes_forces_one_that_does_not_has_no_empty_panels(
    tmp_path: Path,
) -> None:
    mixed = [Report(evaluation=n, core=5, mismatch_max=0.1, net_force=0.1) for n in range(9)]
    plain = [Report(evaluation=n, core=5) for n in range(9)]
    one, two = _run(tmp_path / "a/runs/0001", mixed), _run(tmp_path / "b/runs/0001", plain)
    series = [read_series([one]), read_series([two])]
    figure = side_by_side(series, panels.panels_for(series))
    shown = [axes.get_title().split("\n")[-1] for axes in figure.axes if axes.axison]
    assert sum("F expensive" in title for title in shown) == 1
    assert sum("Net force" in title for title in shown) == 1
    assert sum("Atoms in the regions" in title for title in shown) == 2


def test_evaluations_of_the_cheap_channel_have_no_region() -> None:
    reports = [
        Report(evaluation=n, channel="cheap" if n % 4 else "correction", core=0 if n % 4 else 7)
        for n in range(12)
    ]
    axes = panels.sizes(Figure().subplots(), _series(reports))
    (core,) = [line for line in axes.get_lines() if line.get_label() == "core"]
    assert np.asarray(core.get_ydata()).tolist() == [7.0] * 3


def test_a_plot_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    series = read_series([_run(tmp_path / "0001", [Report(evaluation=n) for n in range(3)])])
    with pytest.raises(ConfigError, match="cannot be written"):
        draw([series], tmp_path / "none" / "p.png")


def test_a_case_stands_for_its_newest_run_with_records(tmp_path: Path) -> None:
    (tmp_path / "mix.toml").write_text(
        '[upstream]\nstructure = "a"\naddress = "unix:a"\n[models.cheap]\n'
    )
    with pytest.raises(ConfigError, match="has no runs"):
        find_run(tmp_path)
    for name in ("0001", "0002"):
        _run(tmp_path / "runs" / name, [Report(evaluation=0)])
    (tmp_path / "runs/0003").mkdir()
    newest = tmp_path / "runs/0002"
    assert [find_run(p) for p in (tmp_path, tmp_path / "mix.toml", newest)] == [newest] * 3
    assert find_run(tmp_path / "runs") == newest
    assert run_label(newest) == f"{tmp_path.name} 0002"
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ConfigError, match="neither a run"):
        find_run(tmp_path / "elsewhere")


def test_a_run_that_has_only_begun_is_told_as_such(tmp_path: Path) -> None:
    begun = new_run_folder(tmp_path / "runs")
    (begun / "mix.toml").write_text("")  # the first file of a run is this copy
    with pytest.raises(ConfigError, match=r"run 0001 has no records yet; .*evaluation$"):
        find_run(begun)
    newest = _run(tmp_path / "runs/0002", [Report(evaluation=0)])
    new_run_folder(tmp_path / "runs")
    with pytest.raises(ConfigError, match=rf"run 0003 has no records yet; .* is {newest}$"):
        find_run(tmp_path / "runs/latest")
    RunInfo().write(tmp_path / "runs/0003")
    (tmp_path / "runs/0003/mixserver.jsonl").touch()
    with pytest.raises(ConfigError, match="run 0003 has no records yet"):
        find_run(tmp_path / "runs/0003")
    assert find_run(tmp_path / "runs") == newest


def test_free_flight_and_rest_have_their_displacements() -> None:
    flight = np.arange(20.0)[:, None, None] * np.array([[0.1, 0.2, 0.2], [0.0, 0.0, 0.0]])
    moved = mean_square_displacement(flight, np.array([0]))
    np.testing.assert_allclose(moved, 0.09 * np.arange(11) ** 2, atol=1e-12)
    assert mean_square_displacement(flight, np.array([1])).tolist() == [0.0] * 11


def test_a_picture_stays_in_its_place_when_a_defect_crosses_the_middle_of_the_cell() -> None:
    places = []
    for shift in (-1e-3, 1e-3):
        frame = fcc(4, 5.0, rattle=0.0)
        moved = frame.topology.frame(frame.positions + shift, frame.cell)
        centre = np.argmin(np.linalg.norm(moved.fractional - 0.5, axis=1))
        region = Region(np.eye(len(frame))[centre], np.array([centre]))
        found = centred(moved, region)
        assert np.abs(found - found[centre]).max() < 10.01
        places.append(found[centre])
    assert np.abs(places[0] - places[1]).max() < 0.01
    assert ((places[0] > 0.0) & (places[0] < 20.0)).all()
