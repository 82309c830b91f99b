"""Crystals have about the number of atoms asked for; regions are what energy mixing would send."""

from __future__ import annotations

import numpy as np
import pytest

from mixserver.analysis.bench.workloads import CRYSTALS, ThermalMotion, crystal, region
from mixserver.core.errors import ConfigError


@pytest.mark.parametrize("element", sorted(CRYSTALS))
@pytest.mark.parametrize("sites", [50, 250, 1000, 3000])
def test_a_crystal_is_nearly_as_large_as_asked_and_nearly_a_cube(element: str, sites: int) -> None:
    found = crystal(element, sites)
    assert len(found.positions) == pytest.approx(sites, rel=0.3)
    edges = np.diag(found.cell)
    assert edges.max() <= 2.0 * edges.min()
    assert found.sites == len(found.positions)
    assert found.job(0, weighted=True).weight is None


def test_a_region_has_all_weighted_sites_and_their_surroundings() -> None:
    found = region("W", 6.0, 4.0, 12.0)
    weight = found.weight
    assert weight is not None
    centre = found.positions[np.argmax(weight)]
    density = 2 / CRYSTALS["W"][1] ** 3
    assert found.sites == pytest.approx(density * 4 / 3 * np.pi * 10.0**3, rel=0.05)
    assert len(found.positions) == pytest.approx(density * 4 / 3 * np.pi * 22.0**3, rel=0.05)
    assert float(weight.max()) == 1.0
    inside = np.count_nonzero(weight == 1.0)
    assert inside == pytest.approx(density * 4 / 3 * np.pi * 6.0**3, rel=0.15)
    # no periodic image of the sphere touches it, so the cluster is complete
    assert np.diag(found.cell).min() >= 2 * 22.0
    assert np.isfinite(centre).all()
    assert found.job(0, weighted=False).weight is None
    assert found.job(0, weighted=True).weight is weight


def test_an_element_without_a_known_crystal_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no crystal of 'Og'.*expected one of W, Si"):
        crystal("Og", 10)


def test_motion_is_smooth_thermal_and_the_same_for_all() -> None:
    rest = crystal("Si", 1000).positions
    motion, again = ThermalMotion(rest), ThermalMotion(rest)
    frames = np.array([motion.frame(number) for number in range(200)])
    assert np.array_equal(frames[7], again.frame(7))
    assert np.std(frames - rest) == pytest.approx(0.07, rel=0.05)
    steps = np.linalg.norm(np.diff(frames, axis=0), axis=2)
    assert 0.001 < np.median(steps) < 0.02
