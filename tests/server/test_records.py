"""Records: one line per evaluation in two files, lambda now and then, pictures of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import ase.io
import numpy as np
import pytest
from ase.io import write
from ipi.utils.io import read_file

from mixserver.analysis.records import read_reports
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.core.structures import read_atoms, read_structure
from mixserver.core.units import BOHR
from mixserver.ipi.output import read_columns
from mixserver.region.region import Region
from mixserver.server.records.recorder import Recorder
from mixserver.server.records.report import COLUMNS, SCALARS, Report, extras
from mixserver.server.runs import new_run_folder


def _frame(number: int = 0) -> Frame:
    topology = Topology(np.array([14, 14, 2], dtype=np.int32))
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [4.0, 4.0, 4.0]])
    return topology.frame(positions, np.diag([5.0, 6.0, 7.0]), number=number)


def _region() -> Region:
    return Region(np.array([1.0, 0.25, 0.0]), np.array([0], dtype=np.intp))


def _run(folder: Path, evaluations: int, **settings: int) -> None:
    recorder = Recorder(folder, **settings)
    for number in range(evaluations):
        report = Report(
            evaluation=number,
            core=1,
            blend=1,
            ms_own=0.5 + number,
            mismatch_rms=0.1,
            mismatch_max=0.2,
            ms_total=2.0,
            expensive_workers=("a", "b"),
        )
        recorder.record(report, _frame(number), _region())
    recorder.close()


def test_every_evaluation_is_a_line_in_both_files(tmp_path: Path) -> None:
    _run(tmp_path, 7)
    lines = (tmp_path / "mixserver.jsonl").read_text().splitlines()
    assert [json.loads(line)["evaluation"] for line in lines] == list(range(7))
    table = read_columns(tmp_path / "mixserver.out")
    assert list(table) == [name for name, _, _ in COLUMNS]
    assert np.loadtxt(tmp_path / "mixserver.out").shape == (7, len(COLUMNS))
    np.testing.assert_allclose(table["ms_own"], 0.5 + np.arange(7))


def test_strides_are_kept(tmp_path: Path) -> None:
    _run(tmp_path, 10, every=4, regions_every=5)
    assert [r.evaluation for r in read_reports(tmp_path)] == [0, 4, 8]
    frames = ase.io.read(tmp_path / "regions.xyz", index=":")
    assert [f.info["evaluation"] for f in frames] == [0, 5]
    np.testing.assert_allclose(frames[0].arrays["lambda"], [1.0, 0.25, 0.0])
    np.testing.assert_array_equal(frames[0].arrays["seed"], [1, 0, 0])
    assert {f.info["mismatch_rms"] for f in frames} == {0.1}
    assert {f.info["mismatch_max"] for f in frames} == {0.2}


def test_strides_meet_evaluations_of_every_channel(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, every=2, regions_every=2)
    for number in range(12):  # counted together, a stride of 2 would never meet a correction
        region, channel = (_region(), "correction") if number % 4 == 3 else (None, "cheap")
        recorder.record(Report(evaluation=number, channel=channel), _frame(number), region)
        if number >= 3:  # a display tells of regions, once there are any
            assert recorder.latest is not None
            assert recorder.latest.evaluation % 4 == 3
    recorder.close()
    assert [r.evaluation for r in read_reports(tmp_path)] == [0, 2, 3, 5, 8, 10, 11]
    frames = ase.io.read(tmp_path / "regions.xyz", index=":")
    assert [f.info["evaluation"] for f in frames] == [3, 11]


def test_extras_are_a_small_object_with_constant_keys() -> None:
    small, full = Report(evaluation=0), Report(evaluation=10**6, core=10**6, net_force=1.0 / 3.0)
    assert json.loads(extras(small)).keys() == json.loads(extras(full)).keys()
    assert set(json.loads(extras(small))) == {*SCALARS, "energy_is"}
    assert "raw" not in json.loads(extras(small))
    assert len(extras(full)) < 1000


def test_what_was_not_measured_is_no_zero(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, regions_every=1)
    some = Report(evaluation=1, gap_max=0.2, gap_rms=0.0, ms_cheap=3.0)
    for report in (Report(evaluation=0), some):
        recorder.record(report, _frame(report.evaluation), _region())
    recorder.close()
    first, second = read_reports(tmp_path)
    assert (first.gap_rms, first.mismatch_max, first.ms_cheap) == (None, None, None)
    assert (second.gap_rms, second.ms_cheap, second.ms_expensive) == (0.0, 3.0, None)
    table = read_columns(tmp_path / "mixserver.out")
    assert np.isnan(table["gap_rms"][0])
    assert table["gap_rms"][1] == 0.0
    assert np.isnan(table["net_force"]).all()
    frames = ase.io.read(tmp_path / "regions.xyz", index=":")
    assert "gap_max" not in frames[0].info
    assert frames[1].info["gap_max"] == 0.2
    said = json.loads(extras(Report(evaluation=0)))
    assert said["gap_rms"] is None
    # what i-PI does with extras it is to print or to interpolate
    assert np.isnan(np.asarray([said["gap_rms"], 1.0], dtype=float)).tolist() == [True, False]


def test_a_full_disk_does_not_stop_the_run(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, regions_every=1)
    (tmp_path / "regions.xyz").mkdir()  # writing there fails with an OSError
    for number in range(3):
        recorder.record(Report(evaluation=number), _frame(number), _region())
    recorder.close()
    assert len(read_reports(tmp_path)) == 1


def test_no_error_ends_the_thread_that_writes(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, regions_every=1)
    for number in range(3):
        recorder.record(Report(evaluation=number), _frame(number), cast(Any, "no region"))
    recorder.close()  # which waits for all that was recorded
    assert len(read_reports(tmp_path)) == 1


def test_run_folders_count_on(tmp_path: Path) -> None:
    first, second = new_run_folder(tmp_path / "runs"), new_run_folder(tmp_path / "runs")
    assert (first.name, second.name) == ("0001", "0002")
    assert (tmp_path / "runs/latest").resolve() == second.resolve()


def test_a_line_cut_short_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    _run(tmp_path, 3)
    file = tmp_path / "mixserver.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert [r.evaluation for r in read_reports(tmp_path)] == [0, 1]


@pytest.mark.parametrize("unit", ["angstrom", "atomic"])
def test_ipi_xyz_is_read_with_its_cell(tmp_path: Path, unit: str) -> None:
    named = "positions{angstrom} cell{angstrom}" if unit == "angstrom" else ""
    scale = 1.0 if unit == "angstrom" else 1.8897261
    (tmp_path / "a.xyz").write_text(
        f"2\n# CELL(abcABC): {4 * scale} {5 * scale} {6 * scale} 90.0 90.0 80.0 {named}\n"
        f"W 0 0 0\nHe {1.5 * scale} 0 0\n"
    )
    topology, frame = read_structure(tmp_path / "a.xyz")
    assert topology.numbers.tolist() == [74, 2]
    np.testing.assert_allclose(frame.positions[1], [1.5, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(frame.cell, axis=1), [4.0, 5.0, 6.0], atol=1e-9)


@pytest.mark.parametrize(
    "comment",
    [
        "# CELL(abcABC): 0.4 0.5 0.6 90 90 80 positions{nanometer} cell{nanometer}",
        "# CELL{abcABC}: 0.4 0.5 0.6 90 90 80 Traj: positions{nanometer} cell{nanometer}",
        "# CELL(H): 4 0.8682408883346517 0 0 4.92403876506104 0 0 0 6 positions{nanometer} "
        "cell{angstrom}",
        # rows, and a along y: i-PI turns the system until a lies along x
        "# CELL[GENH]: 0 0.4 0 -0.492403876506104 0.08682408883346517 0 0 0 0.6 "
        "positions{nanometer} cell{nanometer}",
    ],
)
def test_every_cell_and_unit_of_ipi_is_read_as_ipi_reads_it(tmp_path: Path, comment: str) -> None:
    file = tmp_path / "a.xyz"
    atom = "0 0.15 0" if "GENH" in comment else "0.15 0 0"
    file.write_text(f"2\n{comment}\nW 0 0 0\nHe {atom}\n")
    _, frame = read_structure(file)
    expected = [[4.0, 0.0, 0.0], [0.8682408883346517, 4.92403876506104, 0.0], [0.0, 0.0, 6.0]]
    np.testing.assert_allclose(frame.cell, expected, atol=1e-12)
    with file.open() as handle:
        theirs = read_file("xyz", handle)
    np.testing.assert_allclose(frame.cell, theirs["cell"].h.T * BOHR, atol=1e-9)
    if "GENH" not in comment:  # i-PI means positions there in units of its turned axes
        np.testing.assert_allclose(frame.positions[1], [1.5, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(frame.positions, theirs["atoms"].q.reshape(-1, 3) * BOHR, atol=1e-9)


def test_units_of_the_file_element_count_where_the_comment_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1\n# CELL(abcABC): 4 5 6 90 90 90\nW 1 0 0\n")
    atoms = read_atoms(tmp_path / "a.xyz", units="angstrom", cell_units="nanometer")
    np.testing.assert_allclose(atoms.positions, [[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(atoms.cell.lengths(), [40.0, 50.0, 60.0])


@pytest.mark.parametrize("comment", ["positions{furlong}", "positions{angstrom} cell{bohr}"])
def test_an_unknown_unit_is_refused_by_its_name(tmp_path: Path, comment: str) -> None:
    (tmp_path / "a.xyz").write_text(f"1\n# CELL(abcABC): 4 5 6 90 90 90 {comment}\nW 0 0 0\n")
    with pytest.raises(ConfigError, match=r"'(furlong|bohr)' is not a unit known here: .*angstrom"):
        read_structure(tmp_path / "a.xyz")


@pytest.mark.parametrize(
    ("said", "pbc"),
    [
        ('pbc="F F F"', (False, False, False)),
        ('pbc="T T F"', (True, True, False)),
        ("", (True, True, True)),
    ],
)
def test_what_a_file_says_of_pbc_is_honoured(
    tmp_path: Path, said: str, pbc: tuple[bool, bool, bool]
) -> None:
    (tmp_path / "a.xyz").write_text(
        f'1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 {said}\nHe 1 2 3\n'
    )
    assert read_structure(tmp_path / "a.xyz")[0].pbc == pbc


def test_a_format_that_says_nothing_of_pbc_is_periodic(tmp_path: Path) -> None:
    (tmp_path / "POSCAR").write_text("x\n1.0\n9 0 0\n0 9 0\n0 0 9\nHe\n1\nDirect\n0 0 0\n")
    assert read_structure(tmp_path / "POSCAR")[0].pbc == (True, True, True)
    write(tmp_path / "a.cube", ase.Atoms("He", cell=[9, 9, 9]), data=np.ones((2, 2, 2)))
    assert read_structure(tmp_path / "a.cube")[0].pbc == (True, True, True)


def test_a_folder_is_no_structure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        read_structure(tmp_path)


def test_a_structure_that_is_not_there_names_what_is(tmp_path: Path) -> None:
    (tmp_path / "init.xyz").touch()
    (tmp_path / "input.xml").touch()
    with pytest.raises(
        ConfigError, match=r"inti\.xyz does not exist; did you mean .*/init\.xyz\?$"
    ):
        read_structure(tmp_path / "inti.xyz")
    with pytest.raises(ConfigError, match=r"does not exist$"):
        read_structure(tmp_path / "quartz.cif")
    with pytest.raises(ConfigError, match=r"there is no folder .*cells"):
        read_structure(tmp_path / "cells" / "init.xyz")


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "cannot be read"), ("1\n\nSi 0 0 0\n", "has no cell"), (None, "does not exist")],
)
def test_a_bad_structure_is_said(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_structure(tmp_path / "a.xyz")
