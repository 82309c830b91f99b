"""Self-interstitials whose path is known are found again."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from mixserver.core.errors import ConfigError
from mixserver.studies.interstitial import interstitial_walk

A, CELLS = 2.86, 4
LENGTHS = np.full(3, A * CELLS)
SITES = bulk("Fe", "bcc", a=A, cubic=True).repeat(CELLS).positions
JUMPS = 0.5 * A * np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
HALF = 0.36 * A * np.array([1.0, 1.0, 0.0]) / np.sqrt(2.0)


def site_at(place: np.ndarray) -> int:
    away = place - SITES
    return int(np.linalg.norm(away - LENGTHS * np.rint(away / LENGTHS), axis=1).argmin())


def crystal_with(place: np.ndarray) -> tuple[np.ndarray, int]:
    """Atoms with a dumbbell at a site, the last atom one of its two; and the other one."""
    site = site_at(place)
    positions = np.vstack([SITES, SITES[site] + HALF])
    positions[site] -= HALF
    return positions, site


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_path_of_an_interstitial_is_found(seed: int, wrapped: bool) -> None:
    rng = np.random.default_rng(seed)
    steps = JUMPS[rng.integers(len(JUMPS), size=60)] * rng.integers(0, 2, (60, 1))
    path = SITES[5] + np.cumsum(steps, axis=0)
    drift = np.cumsum(rng.normal(0.0, 0.03, (60, 3)), axis=0)
    frames, others = [], []
    for place, away in zip(path, drift, strict=True):
        positions, other = crystal_with(place)
        # of the heat, without the tails of a normal distribution
        positions = positions + rng.uniform(-0.2, 0.2, positions.shape) + away
        frames.append(positions - LENGTHS * np.floor(positions / LENGTHS) if wrapped else positions)
        others.append(other)
    found = interstitial_walk(frames, SITES, LENGTHS)
    assert found.sites - found.sites[0] == pytest.approx(path - path[0], abs=1e-6)
    assert found.atoms.tolist() == [[other, len(SITES)] for other in others]
    assert np.linalg.norm(found.axes, axis=1).mean() == pytest.approx(0.72 * A, abs=0.2)
    apart = found.centres - path - drift
    assert np.abs(apart - LENGTHS * np.rint(apart / LENGTHS)).max() < 0.6


def test_a_close_pair_elsewhere_does_not_move_it() -> None:
    calm, _ = crystal_with(SITES[5])
    stirred = calm.copy()
    far, near = site_at(SITES[5] + LENGTHS / 2), site_at(SITES[5] + LENGTHS / 2 + JUMPS[0])
    stirred[far] = SITES[near] - 0.3 * JUMPS[0]
    found = interstitial_walk([calm, stirred, calm], SITES, LENGTHS)
    pair = found.sites[1] - found.sites[0]  # the sum of sites sees the pair while it is there
    assert pair == pytest.approx(JUMPS[0], abs=1e-6)
    assert found.sites[2] == pytest.approx(found.sites[0])


def test_what_is_no_interstitial_is_refused() -> None:
    with pytest.raises(ConfigError, match="has 128 atoms; a crystal of 128 sites"):
        interstitial_walk([SITES], SITES, LENGTHS)
    gas = np.random.default_rng(1).uniform(0.0, A * CELLS, (len(SITES) + 1, 3))
    with pytest.raises(ConfigError, match="not a crystal with one self-interstitial"):
        interstitial_walk([gas], SITES, LENGTHS)
    with pytest.raises(ConfigError, match="no frame"):
        interstitial_walk([], SITES, LENGTHS)
