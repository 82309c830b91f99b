"""Suites measure real processes, and every row's command is one that repeats it."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import msgspec
import pytest

from mixserver.analysis.bench.gpu import GpuSuite, GpuSupport, measure_gpu
from mixserver.analysis.bench.lammps_steps import LammpsSuite, measure_lammps
from mixserver.analysis.bench.mace_engines import MaceSuite, measure_mace
from mixserver.analysis.bench.pairing import Board, Effort
from mixserver.analysis.bench.report import Row
from mixserver.analysis.bench.scaling import ScalingSuite, measure_scaling
from mixserver.analysis.bench.speedup import SpeedupSuite, measure_speedup
from mixserver.analysis.bench.untrained import UntrainedMace
from mixserver.cli import main
from mixserver.core.errors import ConfigError

MINIMAL = Path(__file__).parents[3] / "inputs" / "minimal"
LJ = "pair_style lj/cut 5.0\npair_coeff * * 0.4 2.3\n"


@pytest.fixture
def board() -> Board:
    return Board(Effort(pairs=3, warm_up=1, limit_s=0.0))


def assert_measured(row: Row) -> None:
    assert row.pairs == 3
    assert row.fast.ms > 0.0
    assert row.slow.ms >= row.slow.ms_fastest > 0.0
    low, high = row.ratio_quartiles
    assert 0.0 < low <= row.ratio <= high
    program, *words = shlex.split(row.command)
    assert program == "mixserver"
    command: click.Command = main
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    command.make_context(row.suite, words)


async def test_a_mixed_case_beside_its_cheap_model(board: Board) -> None:
    shown: list[Row] = []
    board.on_row = shown.append
    suite = SpeedupSuite(case=MINIMAL, atoms=(500,), ways=("mixed", "cheap", "torch"))
    await measure_speedup(suite, board)
    assert shown == board.rows
    (row,) = board.rows
    assert (row.fast.name, row.slow.name, row.atoms) == ("mixed", "all cheap", 512)
    assert_measured(row)
    assert 0 < row.sites == row.details["core"] + row.details["blend"]
    assert row.details["ms_cheap"] > 0.0
    (out,) = board.left_out
    assert out.reason == "the case's expensive worker is no MACE worker"


async def test_beads_together_beside_one_by_one(board: Board) -> None:
    suite = ScalingSuite(case=MINIMAL, vary=("beads", "ranks"), beads=2, atoms=1, bead_atoms=1)
    await measure_scaling(suite, board)
    assert [row.fast.name for row in board.rows] == ["2 beads in batches", "2 beads together"]
    for row in board.rows:
        assert row.slow.name == "2 beads one by one"
        assert_measured(row)
    assert [one.reason for one in board.left_out] == ["the cheap worker is toy, not lammps"]


@pytest.mark.physics
async def test_larger_regions_and_more_workers(board: Board) -> None:
    suite = ScalingSuite(case=MINIMAL, atoms=1, vary=("region", "workers"), core_radii=(1.0, 4.0))
    await measure_scaling(msgspec.structs.replace(suite, large_core=4.0, max_sites=20), board)
    region, workers = board.rows
    assert (region.fast.name, region.slow.name) == ("core 1 Å", "core 4 Å")
    assert workers.slow.name == "1 expensive worker, core 4 Å"
    for row in board.rows:
        assert_measured(row)


@pytest.mark.lammps
async def test_the_lammps_engine_beside_lammps(tmp_path: Path, board: Board) -> None:
    (tmp_path / "lj.in").write_text(LJ)
    suite = LammpsSuite(commands=tmp_path / "lj.in", elements=("Cu",), atoms=(32,), steps=2)
    await measure_lammps(suite, board)
    assert [row.slow.name for row in board.rows] == ["run inside LAMMPS", "LAMMPS's fix ipi"]
    for row in board.rows:
        assert_measured(row)
    (left,) = board.left_out
    assert left.name == "mixserver-worker lammps --kernels compiled"
    assert "it has no SNAP" in left.reason or "numba" in left.reason


@pytest.mark.lammps
async def test_what_lammps_says_of_a_wrong_potential_is_quoted(
    tmp_path: Path, board: Board
) -> None:
    (tmp_path / "wrong.in").write_text("pair_style nonsense\n")
    suite = LammpsSuite(commands=tmp_path / "wrong.in", elements=("Cu",), atoms=(32,), steps=2)
    with pytest.raises(Exception, match="nonsense"):
        await measure_lammps(suite, board)


async def test_what_cannot_be_compared_is_refused(board: Board, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected mixed and at least one other way"):
        await measure_speedup(SpeedupSuite(case=MINIMAL, ways=("cheap", "mixed")), board)
    with pytest.raises(ConfigError, match="expected at least two"):
        await measure_mace(MaceSuite(model=UntrainedMace(), engines=("torch",)), board)
    with pytest.raises(ConfigError, match="there is no model file"):
        await measure_mace(MaceSuite(model=tmp_path / "none.model"), board)


async def test_without_a_gpu_all_that_is_missing_is_listed(board: Board) -> None:
    nothing = GpuSupport(gpus=(), torch="", kokkos="")
    with pytest.raises(ConfigError, match=r"no NVIDIA GPU is visible.*; torch cannot use CUDA"):
        await measure_gpu(GpuSuite(), nothing, board)
    no_torch = GpuSupport(gpus=("H100",), torch="", kokkos="KOKKOS package API: CUDA Serial")
    assert [one.partition(" ")[0] for one in no_torch.missing()] == ["torch"]
    whole = GpuSupport(gpus=("H100",), torch="CUDA 12.8 H100", kokkos="")
    assert whole.missing() == []
    # with a GPU but no Kokkos it goes on, and says where the cheap side runs
    await measure_gpu(GpuSuite(elements=(), kokkos=True), whole, board)
    assert any("no Kokkos for CUDA" in one.reason for one in board.left_out)


@pytest.mark.mace
@pytest.mark.physics
async def test_mace_engines_of_one_untrained_model(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXSERVER_CACHE", str(tmp_path))
    layout = UntrainedMace(element="Si", irreps="8x0e", l_max=1, r_max=3.5)
    suite = MaceSuite(
        model=layout,
        element="Si",
        sites=(16,),
        regions=((1.0, 2.0),),
        dtypes=("float32",),
        engines=("torch", "calculator"),
    )
    await measure_mace(suite, board)
    whole, region = board.rows
    for row in board.rows:
        assert_measured(row)
        assert (row.fast.name, row.slow.name) == ("mixserver, torch kernels", "MACECalculator")
        assert row.fast.model == "untrained MACE 8x0e, l_max 1, 3.5 Å"
    assert whole.sites == whole.atoms == 16
    assert 0 < region.sites < region.atoms
    assert (await layout.file()).parent == tmp_path
    with pytest.raises(ConfigError, match=r"no untrained model was made.*garbage"):
        await UntrainedMace(irreps="garbage").file()
