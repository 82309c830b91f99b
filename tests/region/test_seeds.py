"""Seeds by atom, element, body and criterion."""

from __future__ import annotations

import numpy as np
import pytest
from cells import frame_of, silicon

from mixserver.core.errors import ConfigError
from mixserver.region.seeds import (
    AtomSeeds,
    CriterionSeeds,
    CylinderSeeds,
    SlabSeeds,
    SpeciesSeeds,
    SphereSeeds,
)


def test_indices_come_out_sorted_and_once() -> None:
    np.testing.assert_array_equal(AtomSeeds((5, 2, 5)).atoms(silicon(1)), [2, 5])


def test_a_seed_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"atom 8 .* 8 atoms"):
        AtomSeeds((8,)).atoms(silicon(1))
    with pytest.raises(ConfigError, match="atom -1"):
        AtomSeeds((-1,))


def test_species() -> None:
    seeds = SpeciesSeeds(np.array([74, 2, 74, 2, 4], np.int32), (2, 4))
    np.testing.assert_array_equal(seeds.atoms(frame_of(np.zeros((5, 3)), np.eye(3))), [1, 3, 4])


@pytest.mark.parametrize("fractional", [False, True])
def test_bodies_in_fractions_and_in_angstrom(fractional: bool) -> None:
    frame = frame_of(np.array([[1.0, 5, 5], [5.5, 5, 5], [9.5, 0, 5]]), np.eye(3) * 10.0)
    centre = (0.0, 0.5, 0.5) if fractional else (0.0, 5.0, 5.0)
    sphere = SphereSeeds(centre, 0.5, fractional=fractional).near(frame, 2.0)
    np.testing.assert_array_equal(sphere.atoms, [0])
    np.testing.assert_allclose(sphere.distance, [0.5])
    cylinder = CylinderSeeds(0, centre, 0.5, fractional=fractional).near(frame, 2.0)
    np.testing.assert_array_equal(cylinder.atoms, [0, 1])
    np.testing.assert_array_equal(cylinder.distance, [0.0, 0.0])
    slab = SlabSeeds(0, 0.9, 1.05).near(frame, 1.0)
    np.testing.assert_array_equal(slab.atoms, [0, 2])
    np.testing.assert_allclose(slab.distance, [0.5, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SphereSeeds((0, 0, 0), -1.0), "radius of a sphere"),
        (lambda: CylinderSeeds(2, (0, 0, 0), float("nan")), "radius of a cylinder"),
        (lambda: SlabSeeds(2, 0.6, 0.4), "low < high"),
        (lambda: CriterionSeeds(" "), "needs a compute"),
        (lambda: CriterionSeeds("pe/atom", low=1.0, high=0.0), "low <= high"),
        (lambda: CriterionSeeds("pe/atom", every=0), "at least 1"),
        (lambda: CriterionSeeds("pe/atom", every=9, samples=5, sample_every=2), "10 or more"),
    ],
)
def test_nonsense_is_refused(make, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def _history(seeds: CriterionSeeds, evaluations: int) -> str:
    """Per evaluation: C chooses, s samples, . does neither."""
    return "".join(
        "C" if seeds.selects_at(n) else "s" if seeds.samples_at(n) else "."
        for n in range(evaluations)
    )


@pytest.mark.parametrize(
    ("seeds", "history"),
    [
        (CriterionSeeds("x"), "CCCCC"),
        (CriterionSeeds("x", every=4), "C...C...C"),
        (CriterionSeeds("x", every=4, initial=(0,)), "....C...C"),
        (CriterionSeeds("x", every=6, samples=3, sample_every=2), "C.s.s.C.s.s.C"),
        (CriterionSeeds("x", every=6, samples=2, sample_every=1, initial=()), ".....sC....sC"),
        (CriterionSeeds("x", every=3, samples=3), "CssCssC"),
    ],
)
def test_when_it_samples_and_when_it_chooses(seeds: CriterionSeeds, history: str) -> None:
    assert _history(seeds, len(history)) == history


def test_bounds_are_inclusive_and_nan_is_never_a_seed() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, np.nan])
    np.testing.assert_array_equal(CriterionSeeds("x", low=2.0, high=3.0).select(values), [1, 2])
    np.testing.assert_array_equal(CriterionSeeds("x").select(values), [0, 1, 2, 3])


def test_only_eligible_atoms_are_chosen() -> None:
    seeds = CriterionSeeds("x", low=0.5, eligible=np.array([True, False, True]))
    np.testing.assert_array_equal(seeds.select(np.ones(3)), [0, 2])
    with pytest.raises(ValueError, match="3 atoms got 4"):
        seeds.select(np.ones(4))
