"""Cost of an evaluation and spread of site energies."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from argon import crystal, project_in
from tolerance import EXACT

from mixserver.distill.data.labels import Structure
from mixserver.distill.fitting.pair_basis import PairBasis
from mixserver.distill.potential.writer import write_potential
from mixserver.distill.recipe_workers import cheap_workers, lammps_command
from mixserver.distill.validation.benchmark import cost, site_energies, spread
from mixserver.wire.descriptor import SnapDescriptor
from mixserver.wire.worker import Evaluate, Role


def structure(name: str, numbers: list[int]) -> Structure:
    frame = crystal(1)
    group = np.zeros(4, np.int32)
    return Structure(name, "hot", np.array(numbers, np.int32), frame.positions, frame.cell, group)


class TimedDispatcher:
    """Returns results whose engines report given seconds, and keeps the jobs."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.jobs: list[Evaluate] = []
        self._seconds = iter(seconds)

    async def run(self, jobs: Sequence[tuple[Role, Evaluate]]) -> list[SimpleNamespace]:
        self.jobs += [job for _, job in jobs]
        return [SimpleNamespace(result=SimpleNamespace(seconds=next(self._seconds))) for _ in jobs]


async def test_cost_is_a_median_per_atom_without_the_first_two_evaluations() -> None:
    dispatcher = TimedDispatcher([9.0, 9.0, 0.7, 0.1, 0.6, 0.2, 0.5, 0.3, 0.4])
    found = await cost(dispatcher, "cheap", crystal(1), atoms=100)  # type: ignore[arg-type]
    (atoms,) = {len(job.positions) for job in dispatcher.jobs}
    assert atoms >= 100
    assert len(dispatcher.jobs) == 9
    assert all(job.energies for job in dispatcher.jobs)
    assert len({job.positions.tobytes() for job in dispatcher.jobs}) == 9
    assert found == pytest.approx((0.4e6 / atoms, 0.2e6 / atoms))


async def test_potentials_side_by_side(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    none = PairBasis(functions=0, inner=2.0, cutoff=5.0, elements=("Ar",))
    async with contextlib.AsyncExitStack() as stack:
        dispatchers = []
        for twojmax in (2, 8):
            d = SnapDescriptor(
                twojmax=twojmax, cutoff=5.2, elements=("Ar",), radii=(0.5,), weights=(1.0,)
            )
            coefficients = np.zeros(d.columns)
            coefficients[0] = -twojmax
            file = write_potential(tmp_path, f"ar{twojmax}", d, none, coefficients)
            folder = tmp_path / f"workers-{twojmax}"
            dispatchers.append(
                await stack.enter_async_context(
                    cheap_workers(project, lammps_command(project, file), folder)
                )
            )
        few, many = [await cost(one, "cheap", crystal(1), atoms=100) for one in dispatchers]
        found = [
            await site_energies(one, "cheap", [structure("s", [18] * 4)]) for one in dispatchers
        ]
    assert 0.0 < few[0] < 1e4
    assert few[1] >= 0.0
    assert many[0] > 0.0
    for twojmax, energies in zip((2, 8), found, strict=True):
        np.testing.assert_allclose(energies, [np.full(4, -twojmax)], atol=EXACT)


def test_the_spread_does_not_depend_on_energy_offsets() -> None:
    both = [structure("a", [18, 18, 18, 10]), structure("b", [18, 10, 10, 18])]
    rng = np.random.default_rng(0)
    cheap = [rng.normal(size=4) for _ in both]
    zeros = {18: 7.0, 10: -3.0}
    expensive = [c + [zeros[int(z)] for z in s.numbers] for c, s in zip(cheap, both, strict=True)]
    assert spread(expensive, cheap, both) == pytest.approx(0.0, abs=EXACT)
    expensive[0][0] += 0.5
    # one of five argon atoms is off by 0.5: 0.4 from the mean, the others 0.1; eight atoms in all
    assert spread(expensive, cheap, both) == pytest.approx(np.sqrt((0.4**2 + 4 * 0.1**2) / 8))
