"""What i-PI is told of a trajectory, and what is read of what it printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from argon import crystal
from cells import frames
from hypothesis import given
from tolerance import ROUND_TRIP

from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.structures import read_structure
from mixserver.distill.config.schema import Soft
from mixserver.distill.data import nvt_input as nvt
from mixserver.ipi.input import read_input

SOFT = Soft(
    temperatures=(20.0, 40.0), snapshots=5, copies=2, equilibration_ps=0.25, every_ps=0.1, seed=3
)


def test_plans_share_the_snapshots_out_and_have_noise_of_their_own() -> None:
    planned = nvt.plan_trajectories(SOFT)
    assert [plan.name for plan in planned] == ["20K-0", "20K-1", "40K-0", "40K-1"]
    assert [plan.snapshots for plan in planned] == [3, 2, 3, 2]
    assert len({plan.seed for plan in planned}) == 4
    first = planned[0]
    assert (first.every, first.skipped, first.steps) == (50, 150, 300)
    assert first.wanted == [200, 250, 300]
    assert first.time_ps(first.wanted[-1]) == pytest.approx(0.6)


@given(frames())
def test_a_turned_crystal_is_the_same_crystal_as_i_pi_wants_it(frame: Frame) -> None:
    rotated = nvt.oriented_for_ipi(frame)
    assert np.allclose(np.triu(rotated.cell, 1), 0.0, atol=1e-9)
    assert (np.diag(rotated.cell) > 0).all()
    assert np.allclose(rotated.cell @ rotated.cell.T, frame.cell @ frame.cell.T, atol=1e-6)
    assert np.allclose(rotated.fractional, frame.fractional, atol=1e-9)


def test_the_input_says_what_was_planned(tmp_path: Path) -> None:
    plan = nvt.plan_trajectories(SOFT)[0]
    start = nvt.oriented_for_ipi(crystal(2))
    ipi = read_input(nvt.write_input(plan, start, tmp_path))
    assert ipi.total_steps == plan.steps
    assert ipi.ensembles == ("nvt",)
    assert ipi.sockets[0].as_upstream == "unix:forces"
    topology, frame = read_structure(tmp_path / nvt.START)
    assert np.array_equal(topology.numbers, start.topology.numbers)
    assert np.allclose(frame.positions, start.positions, atol=ROUND_TRIP)
    assert np.allclose(frame.cell, start.cell, atol=ROUND_TRIP)


def _frame(step: int, value: float) -> str:
    box = "# CELL(abcABC): 5 5 5 90 90 90"
    head = f"{box} Step: {step} Bead: 0 positions{{angstrom}} cell{{angstrom}}"
    rows = [f"      Ar  {value:.5e} 0.0 0.0" for _ in range(4)]
    return "\n".join(["4", head, *rows]) + "\n"


def test_parts_are_put_together_by_steps_and_cut_ends_are_passed_over(tmp_path: Path) -> None:
    one, two = tmp_path / "part-001", tmp_path / "part-002"
    one.mkdir()
    two.mkdir()
    cut = _frame(20, 9.0)[:-30]
    (one / "nvt.pos_0.xyz").write_text(_frame(0, 0.0) + _frame(10, 1.0) + cut)
    (two / "nvt.pos_0.xyz").write_text(_frame(10, 1.5) + _frame(20, 2.0))
    found = nvt.read_positions([one, two], crystal(1))
    assert {step: frame[0, 0] for step, frame in found.items()} == {0: 0.0, 10: 1.5, 20: 2.0}
    (one / "nvt.out").write_text("# step\n 0 0.0 40.0 1 1\n 1 0.1 41.0 1 1\n 2 0.2 4")
    (two / "nvt.out").write_text("# step\n 1.0e+00 0.1 43.0 1 1\n")
    assert nvt.read_temperatures([one, two, tmp_path]) == {0: 40.0, 1: 43.0}


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nvt.pos_0.xyz").write_text(_frame(0, 0.0).replace("Step: 0", ""))
    with pytest.raises(ConfigError, match="not a trajectory of 4 atoms"):
        nvt.read_positions([tmp_path], crystal(1))


def test_the_furthest_whole_state_is_found(tmp_path: Path) -> None:
    parts = [tmp_path / name for name in ("part-001", "part-002")]
    for part in parts:
        part.mkdir()
    assert nvt.latest(parts) is None
    state = "<simulation><step>{}</step><ffsocket name='a'/></simulation>"
    (parts[0] / "RESTART").write_text(state.format(20))
    (parts[0] / "nvt.chk").write_text(state.format(10))
    (parts[1] / "nvt.chk").write_text(state.format(30))
    (parts[1] / "RESTART").write_text(state.format(33)[:-4])
    assert nvt.latest(parts) == (30, parts[1] / "nvt.chk")
