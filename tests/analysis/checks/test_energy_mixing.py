"""What `check` says of mixed energies: what is wrong is found, and told with a cure that works."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cells import fcc, silicon
from in_process import prepared_case
from PIL import Image

from mixserver.analysis.checks.energy_mixing import check_energy
from mixserver.analysis.checks.findings import Finding
from mixserver.analysis.checks.finite_differences import shaken
from mixserver.analysis.region_preview import carve_preview
from mixserver.mixing.energy_offsets import EnergyOffset
from mixserver.mixing.energy_reference import EnergyReference
from mixserver.server.energy_reference import ENERGY_REFERENCE
from mixserver.server.mixers import carving_mixer
from mixserver.server.mixing_setup import MixingSetup

CRYSTAL = fcc(5, 5.3, rattle=0.0)


async def _found(setup: MixingSetup, folder: Path, figure: Path | None = None) -> list[Finding]:
    reaches = await setup.reaches()
    mixer = carving_mixer(setup.config, setup.start, reaches.expensive)
    return await check_energy(
        setup,
        reaches,
        carve_preview(setup.start, await setup.region(), mixer),
        shaken(setup.start),
        folder=folder,
        dtype="float64",
        figure=figure,
    )


def _one(found: Sequence[Finding], what: str) -> Finding:
    (finding,) = (finding for finding in found if finding.what == what)
    return finding


def _figure(finding: Finding) -> float:
    assert finding.figure is not None
    return finding.figure


async def test_dead_loads_are_the_cure_where_lambda_is_frozen(tmp_path: Path) -> None:
    async with prepared_case(CRYSTAL, mixing='dead_loads = "off"') as setup:
        found = await _found(setup, tmp_path)
    ghost = _one(found, "ghost forces")
    assert ghost.level == "warning"
    assert 'set mixing.dead_loads = "structure"' in ghost.message
    assert "--figure" in ghost.message
    assert _figure(_one(found, "wider blend")) < _figure(ghost)
    energy = _one(found, "ghost energy")
    assert _figure(energy) == pytest.approx(100.0 * _figure(ghost))
    assert _figure(_one(found, "ghost strain")) != 0.0

    figure = tmp_path / "ghosts.png"
    async with prepared_case(CRYSTAL, mixing='dead_loads = "structure"') as setup:
        cured = await _found(setup, tmp_path, figure)
    assert {finding.level for finding in cured} == {"ok"}
    assert _figure(_one(cured, "ghost forces")) < 1e-10
    assert f"without {_figure(ghost):.3f}" in _one(cured, "ghost forces").message
    assert 0.0 < _figure(_one(cured, "dead loads")) < _figure(ghost)
    assert not any(finding.what in {"wider blend", "ghost strain"} for finding in cured)
    with Image.open(figure) as image:
        assert image.width > 500
        assert len(set(np.asarray(image.convert("RGB")).reshape(-1, 3)[::17].sum(axis=1))) > 10


async def test_a_wider_blend_is_the_cure_where_lambda_follows(tmp_path: Path) -> None:
    async with prepared_case(CRYSTAL, region="follow = true", core=4.0) as setup:
        found = await _found(setup, tmp_path)
    ghost = _one(found, "ghost forces")
    assert ghost.level == "warning"
    assert "widen region.blend_width" in ghost.message
    wide = _one(found, "wider blend")
    assert "blend_width = 3 Å" in wide.message
    assert "blend_width = 6 Å" in wide.message
    async with prepared_case(CRYSTAL, region="follow = true", core=4.0, blend=6.0) as setup:
        again = await _found(setup, tmp_path)
    assert _figure(_one(again, "ghost forces")) == pytest.approx(_figure(wide))
    spread = _one(found, "e - d - c")
    assert "grad-lambda forces of up to" in spread.message
    for what in ("forces of the mixed energy", "virial of the mixed energy"):
        assert _one(found, what).level == "ok"


async def test_a_blend_that_would_fill_the_cell_is_not_tried(tmp_path: Path) -> None:
    off = 'dead_loads = "off"'
    async with prepared_case(fcc(3, 5.3, rattle=0.0), mixing=off, blend=8.0) as setup:
        found = await _found(setup, tmp_path)
    assert "would fill the cell" in _one(found, "wider blend").message


async def test_a_criterion_tells_what_its_choices_cost(tmp_path: Path) -> None:
    start = silicon(3, rattle=0.1)
    criterion = '{ kind = "criterion", compute = "coord/atom cutoff 2.4", low = 4.0, high = 4.0 }'
    # small atoms, so that silicon is not torn apart
    weak = {"epsilon": 0.3, "sigma": 2.1, "cutoff": 5.0}
    strong = {"epsilon": 0.4, "sigma": 2.1, "cutoff": 5.0}
    async with prepared_case(
        start, seeds=criterion, core=1.0, blend=2.0, cheap=weak, expensive=strong
    ) as setup:
        found = await _found(setup, tmp_path)
        spread = (await setup.state(await setup.reaches())).zeros["Si"].spread
    told = _one(found, "e - d - c")
    assert _figure(told) == spread > 0.0
    assert "work" in told.message
    assert _one(found, "forces of the mixed energy").level == "ok"


async def test_a_thin_halo_is_measured(tmp_path: Path) -> None:
    figures = []
    for width in (2.0, 4.5, 6.0):
        thin = f"halo_width = {width}\nallow_thin_buffer = true"
        async with prepared_case(CRYSTAL, region=thin) as setup:
            figures.append(_figure(_one(await _found(setup, tmp_path), "halo")))
    assert figures[0] > figures[1] > 1e-3
    assert figures[2] < 1e-9  # as wide as the model looks


async def test_what_align_wrote_is_used_and_nonsense_is_told(tmp_path: Path) -> None:
    file = tmp_path / ENERGY_REFERENCE
    async with prepared_case(CRYSTAL) as setup:
        reaches = await setup.reaches()
        state = await setup.state(reaches)
        kept = EnergyReference(
            atoms=state.atoms,
            settings=state.settings,
            structure=state.structure,
            zeros={"Si": EnergyOffset(-1.25, 0.5, 7, bulk=True)},
        )
        kept.write(file)
        found = await _found(setup, tmp_path)
        assert _figure(_one(found, "zero")) == -1.25
        assert "among 7 atoms" in _one(found, "zero").message
        file.write_text("{}")
        (error,) = await _found(setup, tmp_path)
    assert error.level == "error"
    assert str(file) in error.message
