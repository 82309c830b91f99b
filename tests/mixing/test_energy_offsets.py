"""The zeros of energy: whose site energies are compared, and what comes of it."""

from __future__ import annotations

import numpy as np
import pytest
from cells import silicon
from hypothesis import given
from hypothesis import strategies as st
from region_models import divide
from tolerance import ROUND_TRIP

from mixserver.core.frame import Frame, Topology
from mixserver.mixing.energy_offsets import align, matching_atoms
from mixserver.region import AtomSeeds, Region, ShellRegion

W, HE, C = 74, 2, 6


def _named(numbers: np.ndarray, cells: int = 4) -> Frame:
    frame = silicon(cells)
    return Topology(numbers.astype(np.int32)).frame(frame.positions, frame.cell)


def _around(frame: Frame, atom: int, core: float = 3.0, blend: float = 3.0) -> Region:
    return divide(ShellRegion(AtomSeeds([atom]), core_radius=core, blend_width=blend), frame)


def _away(frame: Frame, atom: int) -> np.ndarray:
    vector = frame.fractional - frame.fractional[atom]
    return np.asarray(np.linalg.norm((vector - np.rint(vector)) @ frame.cell, axis=1))


def test_the_blend_and_what_is_near_it_is_bulk_like_and_the_core_is_not() -> None:
    frame = silicon(5)
    region = _around(frame, 0)
    chosen = matching_atoms(frame, region)
    share, away = region.lambda_, _away(frame, 0)
    assert len(chosen) >= 32
    assert not (share[chosen] == 1.0).any()
    assert set(np.flatnonzero((share > 0.0) & (share < 1.0))) <= set(chosen)
    assert away[chosen].max() < 3.0 + 3.0 + 2.5
    assert (np.diff(chosen) > 0).all()


def test_a_large_blend_is_enough() -> None:
    frame = silicon(5)
    region = _around(frame, 0, blend=6.0)
    assert region.blend > 32
    share = region.lambda_
    wanted = np.flatnonzero((share > 0.0) & (share < 1.0))
    np.testing.assert_array_equal(matching_atoms(frame, region), wanted)


def test_without_a_blend_atoms_around_the_core_are_taken() -> None:
    frame = silicon(5)
    region = _around(frame, 0, blend=0.0)
    chosen = matching_atoms(frame, region)
    assert len(chosen) >= 32
    assert not region.lambda_[chosen].any()
    assert _away(frame, 0)[chosen].max() < 3.0 + 10.0


def test_an_element_in_the_core_only_is_represented_by_its_core_atoms() -> None:
    numbers = np.full(512, W)
    numbers[0] = HE
    frame = _named(numbers)
    region = _around(frame, 0)
    chosen = matching_atoms(frame, region)
    assert 0 in chosen
    assert (region.lambda_[np.setdiff1d(chosen, [0])] < 1.0).all()


def test_an_element_far_away_is_found_there() -> None:
    frame = silicon(6)
    numbers = np.full(len(frame), W)
    far = np.argsort(_away(frame, 0))[-3:]
    numbers[far] = C
    frame = _named(numbers, 6)
    chosen = matching_atoms(frame, _around(frame, 0, 2.0, 1.0))
    assert set(far) <= set(chosen)
    assert np.count_nonzero(numbers[chosen] == W) >= 32


@pytest.mark.parametrize("atoms", [1, 8, 64])
def test_where_nothing_is_expensive_the_first_atoms_are_taken(atoms: int) -> None:
    frame = silicon(2)
    frame = Topology(frame.topology.numbers[:atoms]).frame(frame.positions[:atoms], frame.cell)
    region = Region(np.zeros(atoms), np.empty(0, dtype=np.intp))
    np.testing.assert_array_equal(matching_atoms(frame, region), np.arange(min(atoms, 32)))


def test_where_everything_is_expensive_all_atoms_are_taken() -> None:
    frame = silicon(1)
    region = Region(np.ones(8), np.arange(8))
    chosen = matching_atoms(frame, region)
    np.testing.assert_array_equal(chosen, np.arange(8))
    zero = align(frame.topology.numbers, np.full(8, 2.0), region.lambda_)[14]
    assert (zero.value, zero.atoms, zero.bulk) == (2.0, 8, False)


@given(
    st.dictionaries(st.sampled_from([HE, C, W]), st.floats(-1e4, 1e4), min_size=1),
    st.integers(0, 2**32 - 1),
)
def test_constants_per_element_are_recovered(offsets: dict[int, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.array(sorted(offsets))[rng.integers(len(offsets), size=60)]
    noise = rng.normal(size=60)
    gaps = np.array([offsets[z] for z in numbers]) + noise
    share = np.where(numbers == HE, 1.0, rng.random(60) * 0.9)
    found = align(numbers, gaps, share)
    assert set(found) == set(numbers.tolist())
    for number, zero in found.items():
        mine = noise[numbers == number]
        assert zero.value == pytest.approx(offsets[number] + mine.mean(), rel=ROUND_TRIP, abs=1e-9)
        assert zero.spread == pytest.approx(mine.std(), abs=1e-8)
        assert zero.atoms == len(mine)
        assert zero.bulk == (number != HE)
