"""A scan of radii: ranges as written, errors against the expensive model, the points to choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cells import fcc
from hypothesis import given
from hypothesis import strategies as st
from in_process import prepared_case
from PIL import Image

from mixserver.analysis.region_scan.figure import draw_scan
from mixserver.analysis.region_scan.grid import Radii, read_grid, with_radii
from mixserver.analysis.region_scan.measure import measure_scan
from mixserver.analysis.region_scan.results import Errors, Scan, ScanPoint
from mixserver.cli.region_text import scan_text
from mixserver.config import load_case
from mixserver.core.errors import ConfigError

INPUTS = Path(__file__).parents[2] / "inputs"
CRYSTAL = fcc(4, 5.3, rattle=0.0)
GRID = [Radii(core, blend) for blend in (2.0, 4.0) for core in (0.0, 3.0, 5.0)]


def test_ranges_are_combined_and_the_case_stands_in_for_those_not_named() -> None:
    case = load_case(INPUTS / "w_he")
    assert read_grid(case, ["core=3:4.5:0.5", "blend=2,6"]) == [
        (core, blend) for blend in (2.0, 6.0) for core in (3.0, 3.5, 4.0, 4.5)
    ]
    assert read_grid(case, ["core=3:5 blend_width=4"]) == [(3.0, 4.0), (4.0, 4.0), (5.0, 4.0)]
    assert read_grid(case, ["blend=2:3"]) == [(4.0, 2.0), (4.0, 3.0)]


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        (["cores=3:8"], "write core=LOW:HIGH"),
        (["core"], "write core=LOW:HIGH"),
        (["core=3:x"], "lengths in Å"),
        (["core=3:8:0"], "lengths in Å"),
        (["core=1:2:3:4"], "lengths in Å"),
        (["core=8:3"], "the lower one first"),
        (["core=-1:3"], "0 Å or more"),
        (["core=nan"], "0 Å or more"),
        (["core=inf:inf"], "lengths in Å"),
        (["core=0:1e9"], "more than 200"),
        (["core=0:20 blend=1:20"], "420 combinations"),
        (["core=3", "core=4"], "twice"),
        (["blend=0:2"], "core 4 and blend 0 Å: region.follow"),
    ],
)
def test_a_range_that_means_nothing_is_refused(ranges: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_grid(load_case(INPUTS / "w_he"), ranges)


@given(st.lists(st.tuples(st.floats(0.01, 10.0), st.floats(0.01, 10.0)), min_size=1, max_size=12))
def test_of_every_point_left_out_one_that_is_named_is_faster_and_no_worse(
    measured: list[tuple[float, float]],
) -> None:
    points = tuple(
        ScanPoint(at, 2.0, 1, 1, 1, 1.0, ms, ms, Errors(None, error, error, error))
        for at, (ms, error) in enumerate(measured)
    )
    scan = Scan(10, "energy", 0.05, (0, 2.0), 9.0, 1.0, Errors(None, 1.0, 1.0, 1.0), points)
    best = [measured[int(point.core_radius)] for point in scan.best()]
    assert best == sorted(best)
    assert [error for _, error in best] == sorted((error for _, error in best), reverse=True)
    for ms, error in measured:
        assert any(b_ms <= ms and b_error <= error for b_ms, b_error in best)


async def test_force_mixing_is_exact_in_the_core_and_less_wrong_with_larger_radii(
    tmp_path: Path,
) -> None:
    done: list[int] = []
    async with prepared_case(CRYSTAL, kind="force", mixing='zero_net = "off"') as setup:
        scan = await measure_scan(setup, tmp_path, GRID, displacement=0.05, on_progress=done.append)
    assert done == list(range(len(GRID) + 1))
    errors = {(p.core_radius, p.blend_width): found for p, _, found in scan.measured}
    assert len(errors) == len(GRID)
    assert all((found.inner or 0.0) < 1e-10 for found in errors.values())
    assert scan.judged_by == "outer"
    for blend in (2.0, 4.0):
        outer = [errors[core, blend].outer or 0.0 for core in (0.0, 3.0, 5.0)]
        assert outer == sorted(outer, reverse=True)
        assert outer[0] < (scan.cheap_errors.outer or 0.0)
    assert errors[5.0, 4.0].all < scan.cheap_errors.all
    assert "how far from the seeds forces are expensive" in scan_text(scan)


async def test_energy_mixing_has_an_error_in_the_core_that_larger_cores_reduce(
    tmp_path: Path,
) -> None:
    async with prepared_case(CRYSTAL) as setup:
        scan = await measure_scan(setup, tmp_path, GRID, displacement=0.05)
        (again,) = (await measure_scan(setup, tmp_path, [GRID[2]], displacement=0.05)).points
    errors = {(p.core_radius, p.blend_width): found for p, _, found in scan.measured}
    inner = [errors[core, 4.0].inner or 0.0 for core in (0.0, 3.0, 5.0)]
    assert inner == sorted(inner, reverse=True)
    assert scan.judged_by == "inner"
    same = errors[GRID[2]]
    assert again.errors is not None
    assert again.errors.all == pytest.approx(same.all)
    assert again.errors.seeds == pytest.approx(same.seeds)
    lines = scan_text(scan).splitlines()
    assert [line.split()[:2] for line in lines[2:8]] == [[f"{c:g}", f"{b:g}"] for c, b in GRID]
    assert sum("*" in line for line in lines[2:8]) == len(scan.best()) > 0
    figure = draw_scan(scan, tmp_path / "scan.png", "a case")
    with Image.open(figure) as image:
        assert image.width > 1000
        assert np.asarray(image.convert("RGB")).reshape(-1, 3).std() > 1.0


async def test_a_scan_of_other_radii_mixes_as_a_case_with_those_radii(tmp_path: Path) -> None:
    """The offsets come from the case's own radii, which changes no force where lambda is frozen."""
    async with prepared_case(CRYSTAL, core=3.0, blend=3.0) as setup:
        (there,) = (await measure_scan(setup, tmp_path, [Radii(4, 2)], displacement=0.1)).points
        assert with_radii(setup.config, Radii(4, 2)).region != setup.config.region
    async with prepared_case(CRYSTAL, core=4.0, blend=2.0) as setup:
        (own,) = (await measure_scan(setup, tmp_path, [Radii(4, 2)], displacement=0.1)).points
    assert there.errors is not None
    assert own.errors is not None
    assert there.errors.all == pytest.approx(own.errors.all, rel=1e-9)
    assert (there.core, there.blend, there.sent) == (own.core, own.blend, own.sent)


async def test_radii_that_cannot_be_mixed_are_named_and_the_others_measured(
    tmp_path: Path,
) -> None:
    bad = ScanPoint(1.0, 2.0, 3, 4, 0, problem="the loads are too large")
    good = ScanPoint(2.0, 2.0, 3, 4, 9, 1.0, 2.0, 2.0, Errors(None, None, 0.1, 0.1))
    scan = Scan(10, "energy", 0.05, (2.0, 2.0), 1.5, 1.0, Errors(None, None, 0.3, 0.3), (bad, good))
    said = scan_text(scan)
    assert "core 1, blend 2: the loads are too large" in said
    assert (
        "WARNING: no point is clearly faster than the expensive model alone for all 10 atoms"
        in said
    )
    draw_scan(scan, tmp_path / "scan.png", "a case")
    with pytest.raises(ConfigError, match="no point of the scan"):
        draw_scan(
            Scan(10, "energy", 0.05, (2.0, 2.0), 1.5, 1.0, bad_errors(), (bad,)),
            tmp_path / "b",
            "c",
        )


def bad_errors() -> Errors:
    """Errors of a cheap model without atoms that matter."""
    return Errors(None, None, None, 0.3)
