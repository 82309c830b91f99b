"""Ghost forces are where the models divide energy differently, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cells import fcc, frame_of
from in_process import CHEAP, EXPENSIVE, prepared_case
from mixserver_worker.engines.toy import ToyEngine
from tolerance import EXACT

from mixserver.analysis.checks.finite_differences import shaken
from mixserver.analysis.checks.ghost_forces import (
    GhostForces,
    bulk_modulus,
    ghost_strain,
    measure_ghost_forces,
    region_function,
)
from mixserver.core.frame import Frame
from mixserver.mixing.jobs import whole_system_job
from mixserver.region.region import Region
from mixserver.server.mixers import evaluate
from mixserver.server.mixing_setup import MixingSetup

CRYSTAL = fcc(4, 5.3, rattle=0.0)
RATTLED = fcc(4, 5.3, rattle=0.05, seed=3)
FOLLOW = "follow = true"


async def _measured(setup: MixingSetup, frame: Frame | None = None) -> GhostForces:
    reaches = await setup.reaches()
    region = await setup.region()
    frame = frame or setup.start
    divided = region_function(setup, region)(frame)
    return await measure_ghost_forces(setup, reaches, await setup.state(reaches), frame, divided)


@pytest.mark.parametrize("region", ["", FOLLOW])
async def test_one_model_mixed_with_itself_has_none(region: str) -> None:
    async with prepared_case(RATTLED, region=region, expensive=CHEAP) as setup:
        seen = await _measured(setup, shaken(RATTLED))
    assert len(seen.blend) > 10
    assert np.linalg.norm(seen.mixed.forces, axis=1).max() > 1.0  # there are forces
    assert seen.largest < EXACT


async def test_a_constant_lambda_has_none() -> None:
    async with prepared_case(RATTLED) as setup:
        reaches = await setup.reaches()
        state = await setup.state(reaches)
        half = Region(np.full(len(RATTLED), 0.5), np.array([0]))
        seen = await measure_ghost_forces(setup, reaches, state, RATTLED, half)
        shell = await _measured(setup)
    assert seen.largest < EXACT
    assert shell.largest > 1e-2  # the same models do have some at an interface


async def test_dead_loads_make_them_vanish_at_the_reference() -> None:
    async with prepared_case(RATTLED) as setup:
        reaches = await setup.reaches()
        state = await setup.state(reaches)
        region = await setup.region()
        by_energy = setup.energy_mixer(reaches, state)
        by_force = setup.force_mixer(reaches, exact=True)
        have = await evaluate(setup.dispatcher, by_energy, RATTLED, region)
        want = await evaluate(setup.dispatcher, by_force, RATTLED, region)
        bare = await measure_ghost_forces(setup, reaches, state, RATTLED, region)
    loads = state.dead_loads
    assert loads is not None
    assert np.abs(have.forces - want.forces).max() < 1e-10
    assert bare.with_dead_loads(loads).largest < 1e-10
    assert bare.largest > 1e-2
    assert bare.largest == pytest.approx(loads.largest, abs=1e-10)
    assert np.abs(bare.forces.sum(axis=0)).max() < EXACT  # momentum is conserved


async def test_where_lambda_follows_they_hold_what_its_gradient_does() -> None:
    """Zeros given a volt off put that much into grad lambda, and nowhere else."""
    async with prepared_case(RATTLED, region=FOLLOW) as setup:
        right = await _measured(setup)
        zero = (await setup.state(await setup.reaches())).zeros["Si"].value
    off = f"zeros = {{ Si = {zero - 1.0} }}"
    async with prepared_case(RATTLED, region=FOLLOW, mixing=off) as setup:
        wrong = await _measured(setup)
        gradient = region_function(setup, right.region)(RATTLED).gradient
    assert gradient is not None
    pulled = gradient.forces(np.ones(len(right.region.active)))
    assert np.abs(pulled.forces).max() > 0.1
    added = wrong.forces - right.forces
    assert np.abs(added[pulled.atoms] - pulled.forces).max() < EXACT
    assert wrong.mixed.diagnostics.gap_max == pytest.approx(1.0, abs=0.3)
    assert wrong.mixed.diagnostics.pull_max > right.mixed.diagnostics.pull_max


async def test_a_wider_blend_has_less() -> None:
    sizes = []
    for width in (3.0, 6.0, 10.0):
        async with prepared_case(fcc(6, 5.3, rattle=0.0), blend=width) as setup:
            sizes.append((await _measured(setup)).largest)
    assert sizes[0] > sizes[1] > sizes[2] > 0.0


async def test_the_strain_is_that_of_forces_that_push_outward() -> None:
    frame = CRYSTAL
    shift = np.array([7.7, -3.1, 4.4])
    moved = frame_of(frame.positions + shift, frame.cell)  # across the cell's faces
    strains = []
    for start in (frame, moved):
        async with prepared_case(start) as setup:
            seen = await _measured(setup)
            apart = start.positions - start.positions[0]
            apart -= np.rint(apart @ start.inverse) @ start.cell
            push = np.zeros_like(apart)
            push[seen.blend] = 0.01 * apart[seen.blend]
            outward = replace(seen, forces=push)
            told = await ghost_strain(setup, outward)
            modulus = await bulk_modulus(setup)
            volume = start.volume * len(seen.region.active) / len(start)
            assert told == pytest.approx(np.vdot(apart, push) / (9.0 * modulus * volume))
            assert told is not None
            assert told > 0.0
            strains.append(await ghost_strain(setup, seen))
    assert strains[0] == pytest.approx(strains[1])
    assert strains[0] != 0.0


async def test_a_region_that_spans_the_cell_has_no_strain() -> None:
    slab = '{ kind = "slab", axis = "c", low = 0.4, high = 0.6 }'
    async with prepared_case(CRYSTAL, seeds=slab, core=1.0, blend=2.0) as setup:
        seen = await _measured(setup)
        assert seen.largest > 0.0
        assert await ghost_strain(setup, seen) is None


async def test_the_bulk_modulus_is_the_curvature_of_the_energy() -> None:
    engine = ToyEngine(**CHEAP)

    def energy(scale: float) -> float:
        frame = frame_of(CRYSTAL.positions * scale, CRYSTAL.cell * scale)
        return engine.evaluate(whole_system_job(frame)).energy

    step = 1e-3
    volumes = [CRYSTAL.volume * (1.0 + s * step) ** 3 for s in (-1, 0, 1)]
    low, middle, high = (energy(1.0 + s * step) for s in (-1, 0, 1))
    slopes = (middle - low) / (volumes[1] - volumes[0]), (high - middle) / (volumes[2] - volumes[1])
    curvature = (slopes[1] - slopes[0]) / (0.5 * (volumes[2] - volumes[0]))
    async with prepared_case(CRYSTAL, expensive=EXPENSIVE) as setup:
        assert await bulk_modulus(setup) == pytest.approx(CRYSTAL.volume * curvature, rel=5e-3)
