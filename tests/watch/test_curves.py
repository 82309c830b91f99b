"""Curves are read while their files grow, and stay short."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watched_folder import record, run_folder

from mixserver.server.runs import RestartOrigin, RunInfo
from mixserver.watch.curves import MOST, Curves, Thinned


@given(count=st.integers(1, 5 * MOST))
def test_a_thinned_series_keeps_order_both_ends_and_its_length(count: int) -> None:
    series = Thinned(("x",))
    for value in range(count):
        series.add((float(value),))
    found = series.columns()["x"]
    assert found[0] == 0
    assert found[-1] == count - 1
    assert min(count, MOST // 2) <= len(found) <= MOST + 1
    gaps = {b - a for a, b in pairwise(found[:-1])}  # type: ignore[operator]
    assert len(gaps) <= 1


def test_records_as_the_server_writes_them(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    record(folder, 7)
    curves = Curves(folder)
    curves.update()
    found = curves.as_json()["evaluations"]
    assert found["evaluation"] == list(range(7))
    assert found["blend"] == [2] * 7
    assert found["mismatch_rms"] == [None] * 7
    assert curves.version == 7


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_line_still_being_written_waits_for_its_end(tmp_path: Path, cut: int) -> None:
    folder = run_folder(tmp_path)
    record(folder, 3)
    file = folder / "mixserver.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    curves = Curves(folder)
    curves.update()
    assert curves.evaluations.seen == 2
    assert curves.unreadable == 0
    file.write_bytes(whole)
    curves.update()
    assert curves.as_json()["evaluations"]["evaluation"] == [0, 1, 2]


def test_damaged_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    record(folder, 2)
    file = folder / "mixserver.jsonl"
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + b'{"evaluation": \n\xff\xfe\n[]\n' + second)
    curves = Curves(folder)
    curves.update()
    assert curves.unreadable == 3
    assert curves.evaluations.seen == 2


def test_properties_of_ipi_as_they_grow(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    curves = Curves(folder)
    curves.update()
    assert curves.latest() == {}
    head = (
        "# column   1     --> step\n# column   2     --> time{picosecond}\n"
        "# column   3     --> temperature{kelvin}\n"
    )
    file = folder / "simulation.out"
    file.write_text(f"{head}0 0.0 300.0\n1 0.001 30")
    curves.update()
    assert curves.latest()["temperature"] == 300.0
    file.write_text(f"{head}0 0.0 300.0\n1 0.001 301.0\n")
    curves.update()
    assert curves.as_json()["properties"]["temperature"] == [300.0, 301.0]
    assert curves.as_json()["properties"]["conserved"] == [None, None]


def test_a_folder_with_nothing_in_it(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    curves.update()
    assert curves.version == 0
    assert curves.as_json()["evaluations"]["evaluation"] == []


def test_a_continued_run_begins_with_the_curves_of_the_earlier_one(tmp_path: Path) -> None:
    first, second = run_folder(tmp_path / "0001"), run_folder(tmp_path / "0002")
    head = "# column   1     --> step : s\n# column   2     --> temperature{kelvin} : T\n"
    _print_steps(first, head, range(8))
    record(first, 8)
    RunInfo(restarted_from=RestartOrigin("../../../0001/runs/0001", "RESTART", 5)).write(second)
    (second / "RESTART.in").write_text(
        "<simulation><step>5</step><output prefix='simulation'><properties filename='out'>"
        " [ step, temperature{kelvin} ] </properties></output></simulation>"
    )
    curves = Curves(second)
    curves.update()
    # what the first run did beyond its RESTART is made again
    assert curves.as_json()["evaluations"]["evaluation"] == list(range(5))
    assert curves.as_json()["properties"]["step"] == list(range(6))
    _print_steps(second, "", range(6, 9))
    record(second, 4)
    curves.update()
    assert curves.as_json()["evaluations"]["evaluation"] == list(range(9))
    assert curves.as_json()["properties"]["step"] == list(range(9))
    assert curves.as_json()["properties"]["temperature"] == [300.0 + n for n in range(9)]


def _print_steps(folder: Path, head: str, steps: range) -> None:
    rows = "".join(f"  {step:.1f}  {300.0 + step}\n" for step in steps)
    (folder / "simulation.out").write_text(head + rows)


def test_a_run_whose_earlier_one_is_gone_has_its_own_curves(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "0002")
    RunInfo(restarted_from=RestartOrigin("../../../0001/runs/0001", "RESTART", 5)).write(folder)
    record(folder, 3)
    curves = Curves(folder)
    curves.update()
    assert curves.as_json()["evaluations"]["evaluation"] == [0, 1, 2]
